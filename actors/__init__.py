"""The runtime and the actors: everything that holds state, runs concurrently, or can fail on its own.

Imports trio, msgspec and the standard library, nothing of `clinvoker`; it sees the outside through `driver`.

mailbox     messages (Tell, Ask, Stream), Ref, Replies: bounded channels under typed calls
actor       the loop: started, receive, admit, produce, stopping
supervisor  child specs, restart strategies and intensity; a dynamic variant for temporary children
errors      the error taxonomy: Code, Refusal, ActorDied
messages    the vocabulary of a turn: Prompt, Options, Event, Usage
telemetry   frozen records of what happened, for metrics and logs
driver      the port to an agent CLI's protocol
outbox      a turn's events between the driver's parser and the runner
marker      the environment marker by which every process of ours is found again
process     a process tree that is gone when the block is left
guardian    the process that cleans up after a daemon that was killed
runner      one live CLI process: its link, its conversations, its death
lease       what a pool is asked and told
pool        the runners of one backend: leases, spares, idle eviction, spawn limit
session     one live conversation: serialises its turns
run         one run: its numbered event log and whoever follows it
limiter     who may run now
"""
