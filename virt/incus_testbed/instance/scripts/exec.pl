# SPDX-License-Identifier: GPL-3.0-or-later
#
# perl -e "$(cat login.pl exec.pl)" LOGIN COMMAND [ARGUMENT...]
#
# Runs a command with the environment of a login of root: under attend.pl, if
# that comes before, or else in the place of this process.

log_in(user_of('root'));

attend(@ARGV) if defined &attend;
exec { $ARGV[0] } @ARGV;
# It is not a program.  A shell may have a builtin of this name, or else prints
# what is wrong.
exec 'sh', '-c', '"$@"', 'sh', @ARGV;
