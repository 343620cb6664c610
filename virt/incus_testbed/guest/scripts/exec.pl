# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat login.pl exec.pl)" LOGIN STATUS COMMAND [ARGUMENT...]
#
# Runs a command with the environment of a login of root.  STATUS takes the
# place of an exit status of 255, which some callers keep for their own
# failures.

my $status_for_255 = shift @ARGV;
log_in(user_of('root'));

# Otherwise the command takes this process' place, so that signals reach it.
if ($status_for_255 != 255 and my $child = fork) {
    waitpid $child, 0;
    my ($signal, $status) = ($? & 127, $? >> 8);
    exit 128 + $signal if $signal;
    exit($status == 255 ? $status_for_255 : $status);
}
exec { $ARGV[0] } @ARGV;
# It is no program: a shell has some more, or says what is wrong.
exec 'sh', '-c', '"$@"', 'sh', @ARGV;
