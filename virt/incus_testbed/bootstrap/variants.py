# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages a new image has: mmdebstrap's variants.

They are apart from request.py for the command line, which every command needs
and which offers them: request.py takes 10 ms to import.
"""

#: The sets of packages, as mmdebstrap(1) names them, from which apt can go on.
#: The first is the usual one.
VARIANTS = ("minbase", "apt", "buildd", "important", "standard")
