# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat relay.pl)" COMMAND...
#
# Runs a command in a virtual machine, and closes the output when it ends.
# Incus' agent waits until no process has the output open any more.  If the
# command left a daemon behind, the agent would never report the exit status.
#
# Signals are passed on to the command.  If this process is killed, so is the
# command.  The exit status is the command's, or 128 + N if signal N ended it.

use strict;

my @passed_on = qw(HUP INT QUIT TERM USR1 USR2);
my @streams;
for my $output (\*STDOUT, \*STDERR) {
    pipe my $from, my $into or die "pipe: $!\n";
    push @streams, [$from, $into, $output];
}

my $child;
for my $name (@passed_on) {
    $SIG{$name} = sub { kill $name => $child if $child };
}
$SIG{CHLD} = sub { };    # so that it interrupts select
$SIG{PIPE} = 'IGNORE';
$child = fork;
die "fork: $!\n" unless defined $child;
if (!$child) {
    $SIG{$_} = 'DEFAULT' for @passed_on, qw(CHLD PIPE);
    open STDOUT, '>&', $streams[0][1];
    open STDERR, '>&', $streams[1][1];
    exec qw(setpriv --pdeathsig KILL --), @ARGV;
    exit 127;
}
close $_->[1] for @streams;

# Copies available output, waiting for it at most $limit seconds.  Returns
# whether there was any.
sub carry {
    my ($limit) = @_;
    my $ready = '';
    vec($ready, fileno $_->[0], 1) = 1 for @streams;
    return 0 unless select($ready, undef, undef, $limit) > 0;
    my @ready = grep { vec $ready, fileno $_->[0], 1 } @streams;
    for my $stream (@ready) {
        my ($from, $into, $output) = @$stream;
        my $data;
        my $open = sysread $from, $data, 65536;
        for (my $sent = 0; $open && $sent < length $data;) {
            my $step = syswrite $output, $data, 65536, $sent;
            if (defined $step) { $sent += $step }
            elsif ($! != 4) { $open = 0 }    # 4: EINTR
        }
        # If the command goes on writing, it gets SIGPIPE.
        @streams = grep { $_ != $stream } @streams unless $open;
    }
    return 1;
}

# The limit is needed: a signal just before select does not interrupt it.
my $ended = 0;
until ($ended || !@streams) {
    carry(0.3);
    $ended = waitpid($child, 1) == $child;    # 1: WNOHANG
}
my $status = $?;
until ($ended) {
    $ended = waitpid($child, 0) == $child;
    $status = $?;
}
while (@streams && carry(0)) { }
exit($status & 127 ? 128 + ($status & 127) : $status >> 8);
