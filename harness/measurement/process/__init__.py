"""One process per measurement: fork server, launcher, worker, messages, outcomes.

fork_server.py      A process that has torch loaded and primed, and forks a worker per request
forked_call.py      A function called in a fork of this process
launch.py           Parts of every launcher: interface, environment, output
launcher.py         Chooses a launcher; a fresh interpreter for each job where nothing forks
messages.py         Messages between the parent and a worker
outcome.py          The outcome of an ended process, the failure of an exception
start_child.py      The first code of a child process: start_child PARENT MODULE [ARGUMENT]
worker.py           Does one job in a process of its own
"""
