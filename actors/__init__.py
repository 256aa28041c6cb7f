"""The runtime and the actors: everything that holds state, runs concurrently, or can fail on its own.

Imports trio, msgspec and the standard library, nothing of `clinvoker`; it sees the outside through `driver` and
`journal`.

The runtime:
mailbox     messages (Tell, Ask, Stream), Ref, Replies: bounded channels under typed calls
actor       the loop: started, receive, admit, produce, stopping
supervisor  child specs, restart strategies and intensity; a dynamic variant for temporary children
change      waiting for a condition over state that changes
errors      the error taxonomy: Code, Refusal, ActorDied
telemetry   frozen records of what happened, for metrics and logs

Processes:
process     a process tree that is gone when the block is left; launch: starting one, output and lines: reading it
marker      the environment marker by which every process of ours is found again; sweep: ending what is found
guardian    the process that cleans up after a daemon that was killed
scratch     directories for agents
obituary    why a process did not start, or how it ended

Turns:
messages    the vocabulary of a turn: Prompt, Options, Event, Usage
driver      the port to an agent CLI's protocol
outbox      a turn's events between the driver's parser and the runner
runner      one live CLI process: its link, its conversations, its death
lease       what a pool is asked and told
pool        the runners of one backend: leases, spares, idle eviction, spawn limit; slots: who may have which
session     one live conversation: serialises its turns; replay: telling an agent what it does not remember
run         one run and whoever follows it; recorder: what its work writes to; log: its numbered events
asks        what a turn asks meanwhile; calls: those of the client's tools, that wait for it
journal     the ports to what outlives an actor
limiter     who may run now, and how often each may ask; line: whose turn it is; bucket: token buckets
"""
