# SPDX-License-Identifier: GPL-3.0-or-later
#
# Waits until Incus has taken the output of a command that has ended; it
# precedes attend.pl and run.pl.
#
# incusd waits for output a second at a time.  When such a second is over, it
# looks whether the process has ended, and if so it takes no more, also if that
# has printed something meanwhile.  On a busy machine "sleep 0.99; echo done"
# printed nothing, with status 0, 2 times in 4000.  So the process that incusd
# waits for must not end before the output is taken.

# Seconds that this takes at most: a process in the background may go on
# writing, and there may be nobody who reads.
my $drain_limit = 5;
# FIONREAD, as most architectures have it, and ppc64el.
my @unread_requests = (0x541B, 0x4004667F);

sub drain {
    my $until = time + $drain_limit;
    for my $output (\*STDOUT, \*STDERR) {
        next unless -p $output;
        select undef, undef, undef, 0.001
            while unread($output) && time < $until;
    }
}

# Returns the number of bytes in a pipe; 0 if that is not known.
sub unread {
    my ($pipe) = @_;
    for my $request (@unread_requests) {
        my $count = pack 'i', 0;
        return unpack 'i', $count if ioctl $pipe, $request, $count;
    }
    return 0;
}
