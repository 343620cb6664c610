# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat login.pl exec.pl)" LOGIN COMMAND [ARGUMENT...]
#
# Runs a command with the environment of a login of root, in this process'
# place, so that signals reach it.

log_in(user_of('root'));

exec { $ARGV[0] } @ARGV;
# It is no program: a shell has some more, or says what is wrong.
exec 'sh', '-c', '"$@"', 'sh', @ARGV;
