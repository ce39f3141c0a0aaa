"""One process per measurement: fork server, launcher, worker, messages, outcomes."""
