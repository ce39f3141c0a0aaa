"""Recordings of PyTorch's CUDA allocator: read, replayed, explained; imports no torch.

categories.py         Category of a block
device_history.py     One device of a recording from its derived beginning on
diagnosis.py          The request that failed, and why
explain.py            A recording explained
explain_page.py       A recording or a message explained as one self-contained page
explain_source.py     harness.explain: why a program ran out of memory, from a snapshot
explain_text.py       A recording explained in words, for a terminal
file_bytes.py         The bytes of a recording, unpacked where it is compressed
initial_state.py      State and settings at the start of a recording
log_failures.py       Every out-of-memory failure in a log
log_text.py           The end of a log of any size as plain text
module_names.py       Names of modules from the frames of a recording
moments.py            Blocks alive at one moment of a recording, grouped
oom_message.py        PyTorch's out-of-memory message, parsed
oom_text.py           An out-of-memory message explained
other_messages.py     What other programs write when memory runs out (other_messages.toml)
operations.py         A trace's events as operations
pools.py              Private pools of a recording (MemPool, CUDA graphs)
recorded_timeline.py  Every block of a recording, or of its last step, for the page
replay.py             One call that reads a snapshot, follows it; and its text
snapshot.py           A memory snapshot as torch.cuda.memory._dump_snapshot writes it
trace_event.py        One entry of a device's trace
unpickler.py          Reads a pickle that is nothing but data
what_if.py            The same requests and releases under other settings, or on another GPU
"""
