# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat login.pl run.pl)" \
#     LOGIN ID USER CWD STREAMS SIZE COMMAND...
#
# Runs a command in a guest as subprocess.run would on a host: as USER with
# its groups, in CWD (empty: its home), with the environment of a login of that
# user, and more variables: SIZE bytes of NAME=VALUE, a NUL after each.  They
# come before the command's input, or in the file that settings.sh has written:
# everybody may read a command line.  STREAMS are 2, or 1 where errors go into
# the output, in order.  In Perl, because a shell can't tell death by a signal
# from an exit status; each Debian has perl-base.
#
# A status below 125 is the command's.  125 means that /run/incus-testbed.ID
# tells how it ended: "exit STATUS", "signal NUMBER", or, where it could not
# start, "user", "settings", "cwd ERRNO" or "command ERRNO".
#
# SIGTERM and its like end all that came of the command, whatever it has made
# of itself: it has a cgroup of its own.

my ($id, $name, $cwd, $streams, $size) = splice @ARGV, 0, 5;
my ($child, $cgroup, $interrupted);

sub finish {
    my ($how) = @_;
    # Who has interrupted it does not ask, and the file would stay.
    if (!$interrupted and open my $file, '>', "/run/incus-testbed.$id") {
        print $file "$how\n";
        close $file;
    }
    exit 125;
}

sub kill_all {
    kill KILL => $child, -$child;
    return unless defined $cgroup;
    if (open my $file, '>', "$cgroup/cgroup.kill") {
        print $file 1;
        close $file;
    }
    # Before Linux 5.14: until none has had a child that was not seen.
    for (1 .. 500) {
        open my $file, '<', "$cgroup/cgroup.procs" or last;
        my @left = <$file> or last;
        kill KILL => map { 0 + $_ } @left;
        select undef, undef, undef, 0.01;
    }
}

for (qw(HUP INT QUIT TERM)) {
    $SIG{$_} = sub { $interrupted = 1; kill_all() if $child };
}

# Reads no byte more: the rest is the command's.
sub settings {
    my ($source, $path) = (\*STDIN, "/run/incus-testbed.$id.env");
    if ($size and open my $file, '<', $path) {
        unlink $path;
        $source = $file;
    }
    my $read = '';
    while (length $read < $size) {
        my $got = sysread $source, $read, $size - length $read, length $read;
        finish('settings') unless $got or !defined $got && $! == 4;    # EINTR
    }
    return map { /^([^=]+)=(.*)$/s } split /\0/, $read;
}

my $user = user_of($name) or finish('user');
my %settings = settings();
log_in($user);
%ENV = (%ENV, %settings);

if (open my $file, '<', '/proc/self/cgroup') {
    for (<$file>) { $cgroup = "/sys/fs/cgroup$1/testbed-$id" if /^0::(.*)/ }
}
# Where there is none to write to, the process group has to do.
undef $cgroup unless defined $cgroup and mkdir $cgroup;

sub start {
    setpgrp;
    if (defined $cgroup and open my $file, '>', "$cgroup/cgroup.procs") {
        print $file 0;
        close $file;
    }
    umask 022;
    open STDERR, '>&', \*STDOUT if $streams == 1;
    return 'user' unless become($user);
    if (length $cwd) { chdir $cwd or return 'cwd ' . ($! + 0) }
    else { chdir $$user{home} or chdir '/' }
    exec { $ARGV[0] } @ARGV;
    return 'command ' . ($! + 0);
}

pipe my $hear, my $say or finish('command ' . ($! + 0));
$child = fork;
finish('command ' . ($! + 0)) unless defined $child;
if (!$child) {
    syswrite $say, start();
    kill KILL => $$;    # its parent does the rest
}
close $say;
kill_all() if $interrupted;

my $trouble = '';
while (1) {
    my $got = sysread $hear, $trouble, 100, length $trouble;
    last if defined $got ? !$got : $! != 4;    # 4: EINTR
}
waitpid $child, 0;
my ($signal, $status) = ($? & 127, $? >> 8);
kill_all() if $interrupted;
rmdir $cgroup if defined $cgroup;
finish($trouble) if length $trouble;
finish("signal $signal") if $signal;
finish("exit $status") if $status >= 125;
exit $status;
