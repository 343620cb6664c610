# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command in an instance, over the Incus daemon's socket, or over TLS.

A program of its own, or a child of a forkserver (forkserver.py), in place of
``incus exec``, which loses a short command's whole output when the machine is
busy: incusd greets each websocket with a ping and closes it when the command
has ended; where the client gets to run only then, its answer to the ping fails,
and it takes that for the end of what it can read (seen with Incus 6.0.4).  Here
what cannot be sent never stops what can be read, and output that the daemon did
not mark as complete is a failure.  Now and then it marks what is not: for that
see instance/scripts/drain.pl.

    exec --socket=PATH --project=NAME INSTANCE COMMAND...
    exec --server=HOST:PORT --certificate=FILE --key=FILE
        [--pinned=FILE | --authorities=FILE] --project=NAME
        INSTANCE COMMAND...

Standard input, output and error are the command's, and so is the exit status:
128 + N where signal N killed it.  Where the command was not run, or not to its
end as far as is known, the status is 125, and the last line of standard error
is "incus-testbed: " and the reason, for people.

Where no process is needed, run() of the module command does the same within
this one, for descriptors or for output that is kept.

SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 go to the command.  If
this process dies, the daemon kills the command.

Its modules import little, and nothing of incus_testbed: starting is a good part
of what a short command costs.  An empty Python takes 6.5 ms on the machine
where this was measured, this program 17.8 ms until its modules are loaded; 7.7
of them are socket, json and signal (with the private modules behind those it
took 10.1 ms).  typing is not imported for the same reason.  With --server, ssl
takes 10 ms more, and the first of six connections 7 ms; the others resume its
TLS session in 2.5 ms each.

Protocol, all read in Incus' source: cmd/incusd/instance_exec.go, shared/ws/,
client/incus_instances.go; websockets are RFC 6455.
"""
