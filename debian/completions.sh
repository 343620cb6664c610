#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   completions.sh DIRECTORY COMMAND...
#
# Write what bash, zsh and fish read to complete commands of ours, below a
# directory that stands for /usr/share.

set -eu

bash=$1/bash-completion/completions
zsh=$1/zsh/vendor-completions
fish=$1/fish/vendor_completions.d
shift

# for_zsh COMMAND BASH-FILE: argcomplete 2, of Debian 12, knows bash alone, which
# zsh can imitate. What a later one writes for bash is for zsh, too.
for_zsh() {
    if ! grep -q '^#compdef' "$2"; then
        printf '#compdef %s\nautoload -Uz bashcompinit\nbashcompinit\n' "$1"
    fi
    cat "$2"
    if ! grep -q '^#compdef' "$2"; then
        # At the first use; from then on it is what the line above has set.
        printf '_bash_complete -o nospace -F _python_argcomplete "$@"\n'
    fi
}

mkdir -p "$bash" "$zsh" "$fish"
for command in "$@"; do
    register-python-argcomplete "$command" >"$bash/$command"
    for_zsh "$command" "$bash/$command" >"$zsh/_$command"
    register-python-argcomplete --shell=fish "$command" >"$fish/$command.fish"
done
