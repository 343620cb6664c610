# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat relay.pl)" COMMAND...
#
# Runs a command in a virtual machine so that its end is the end of its output.
# Incus' agent waits until nobody has the output open any more; a daemon that
# the command leaves behind would keep it from ever telling the status.
#
# Signals are passed on to the command, which is killed if this is.  The exit
# status is the command's, or 128 + N where signal N ended it.

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

# Carries what is there, for $limit seconds at most; true if there was any.
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
        # A command that writes on finds out that nobody reads any more.
        @streams = grep { $_ != $stream } @streams unless $open;
    }
    return 1;
}

# A signal that comes just before select does not interrupt it.
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
