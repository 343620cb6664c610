# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat login.pl exec.pl)" LOGIN COMMAND [ARGUMENT...]
#
# Replaces this process by a command, so that signals reach it.  The command
# gets the environment of a login of root.

log_in(user_of('root'));

exec { $ARGV[0] } @ARGV;
# It is not a program.  A shell may have a builtin of this name, or else prints
# what is wrong.
exec 'sh', '-c', '"$@"', 'sh', @ARGV;
