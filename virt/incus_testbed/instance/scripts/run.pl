# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat login.pl drain.pl run.pl)" \
#     LOGIN ID USER CWD STREAMS SIZE COMMAND...
#
# Runs a command in a guest as subprocess.run would on a host: as USER with
# its groups, in CWD (if empty: USER's home), with the environment of a login of
# that user and additional variables.  These are SIZE bytes of NAME=VALUE, with
# a NUL after each.  They precede the command's input, or are in the file that
# settings.sh wrote; they are not on the command line, because everybody may
# read that.  STREAMS is 2, or 1 to write errors into the output in order.  This
# is Perl because a shell can't distinguish death by a signal from an exit
# status; every Debian has perl-base.
#
# A status below 125 is the command's.  125 means that /run/incus-testbed.ID
# tells how it ended: "exit STATUS", "signal NUMBER", or, where it could not
# start, "user", "settings", "cwd ERRNO" or "command ERRNO".
#
# The signals HUP, INT, QUIT and TERM kill the command and all processes that it
# started, also daemons: the command has its own cgroup.

my ($id, $name, $cwd, $streams, $size) = splice @ARGV, 0, 5;
my ($child, $cgroup, $interrupted);

sub finish {
    my ($how) = @_;
    # After an interruption nobody reads the file, and it would be left behind.
    if (!$interrupted and open my $file, '>', "/run/incus-testbed.$id") {
        print $file "$how\n";
        close $file;
    }
    drain();
    exit 125;
}

sub kill_all {
    kill KILL => $child, -$child;
    return unless defined $cgroup;
    if (open my $file, '>', "$cgroup/cgroup.kill") {
        print $file 1;
        close $file;
    }
    # Before Linux 5.14 there is no cgroup.kill: repeat this until no process is
    # left, because a process may start a child meanwhile.
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
# Without a writable cgroup, only the process group is killed.
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
drain();
exit $status;
