# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs a command in a container to its end; it precedes exec.pl.
#
# Signals are passed on to the command.  If this process is killed, so is the
# command.  The exit status is the command's, or 128 + N if signal N ended it.

my @passed_on = qw(HUP INT QUIT TERM USR1 USR2);
# It is not looked for in PATH: that is the guest's, and for the command.
my $setpriv = '/usr/bin/setpriv';

sub is_program {
    my ($word) = @_;
    my @folders = $word =~ m{/} ? '' : map { "$_/" } split /:/, $ENV{PATH};
    return scalar grep { -f "$_$word" && -x _ } @folders;
}

sub attend {
    my @words = @_;
    unshift @words, 'sh', '-c', '"$@"', 'sh' unless is_program($words[0]);
    # What looks for a process by its words has to find the command alone,
    # also when it looks as the first thing it does.
    $0 = 'incus-testbed';
    defined(my $child = fork) or die "fork: $!\n";
    if (!$child) {
        unshift @words, $setpriv, qw(--pdeathsig KILL --) if -x $setpriv;
        exec @words;
        exit 127;
    }
    for my $name (@passed_on) {
        $SIG{$name} = sub { kill $name => $child };
    }
    # Whoever writes to it learns when the command has closed it.
    close STDIN;
    while (waitpid($child, 0) == -1 && $! == 4) { }    # 4: EINTR
    my $status = $?;
    drain();
    exit($status & 127 ? 128 + ($status & 127) : $status >> 8);
}
