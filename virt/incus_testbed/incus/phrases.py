# SPDX-License-Identifier: GPL-3.0-or-later
"""What Incus says, and what it means: the phrases of Incus 6.0 and 7.0.

All were seen from the real programs.
"""

from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.incus.exec import api

#: A pattern for what is known in another way.
_NEVER = r"(?!)"

_DOCTOR = "'{us} doctor' says what is missing."
_SETUP = "Make what is missing: {us} setup"


@dataclass(frozen=True)
class Phrase:
    """What a message means; ``brief`` says it where Incus is long-winded.

    ``resolution`` can hold {us}, our command, and {there}, a remote for incus'
    own commands.  ``far`` is what it means if the server, {remote}, is on
    another machine; without it, that is the same.
    """

    pattern: str
    kind: type[errors.TestbedError]
    resolution: str = ""
    brief: str = ""
    far: "Phrase | None" = None

    def error(
        self, said: str, asked: str, remote: str = ""
    ) -> errors.TestbedError:
        """Return the error for what was said of what was asked.

        ``remote`` is that of a server which is not on this machine.
        """
        if remote and self.far:
            return self.far.error(said, asked, remote)
        first = f"incus: {said.splitlines()[0]}"
        return self.kind(
            self.brief or first,
            details=f"{first if self.brief else ''}\n(from '{asked}')",
            resolution=self.resolution.format(
                remote=remote,
                there=f" {remote}:" if remote else "",
                us=f"incus-testbed --remote={remote}"
                if remote
                else "incus-testbed",
            ),
        )


DOWN = Phrase(
    r"daemon doesn't appear to be started|connection refused"
    r"|dial unix [^\n]*no such file|unable to connect to: "
    r"|: lookup [^\n]*: no such host",
    errors.DaemonDown,
    f"Start it: systemctl start incus. {_DOCTOR}",
    brief="No Incus daemon answers",
    far=Phrase(
        _NEVER,
        errors.DaemonDown,
        "See the address of {remote}: incus remote list. On that machine, start"
        " Incus and have it listen: incus config set core.https_address :8443",
        brief="No Incus server answers at the remote's address",
    ),
)
GONE = Phrase(
    # The incus command may notice it in any of the steps of a request.
    r"Daemon is shutting down|unexpected EOF|connection reset by peer|: EOF$"
    r"|use of closed network connection|write: broken pipe"
    r"|server closed idle connection",
    errors.DaemonDown,
    f"Look why: journalctl --unit=incus. {_DOCTOR}",
    brief="The Incus daemon has gone away",
    far=Phrase(
        _NEVER,
        errors.DaemonDown,
        "Look why, on the machine of {remote}: journalctl --unit=incus",
        brief="The Incus server of the remote has gone away",
    ),
)
LATE = Phrase(
    _NEVER,
    errors.TimedOut,
    "It is overloaded, or hangs. Look why: journalctl --unit=incus",
    brief="The Incus daemon does not answer",
    far=Phrase(
        _NEVER,
        errors.TimedOut,
        "It is overloaded, or hangs, or the network loses what is sent. Look"
        " why, on the machine of {remote}: journalctl --unit=incus",
        brief="The Incus server of the remote does not answer",
    ),
)
IMPOSTOR = Phrase(
    r"tls: failed to verify certificate: x509: ",
    errors.Denied,
    "If its admin has given it a new one, add the remote again: incus remote"
    " remove {remote}; incus remote add {remote} TOKEN. Otherwise something"
    " else answers there: don't.",
    brief="The remote's certificate is not the expected one",
)
STRANGER = Phrase(
    _NEVER,
    errors.Denied,
    "If it does not know you: there, incus config trust add NAME; here, with"
    " the token that it prints, incus remote remove {remote}; incus remote add"
    " {remote} TOKEN. If it does, its admin has kept you from that.",
    brief="The remote's server does not trust this client, or not with that",
)
NO_CERTIFICATE = Phrase(
    r"Missing TLS client certificate and key",
    errors.Denied,
    "Give yourself a certificate: incus remote generate-certificate. If its key"
    " has a password, have incus keep the connection open: set the remote's"
    " keepalive in config.yml.",
    brief="A certificate for the remote can't be used",
)
#: Said by the member that this client asks, of the one that it should ask.  The
#: client itself would have failed at its first question, of /1.0.
AWAY = Phrase(
    r"Missing event connection with target cluster member"
    r"|Target cluster member is unavailable"
    r'|https://[^"]*/1\.0/[^"]*": Unable to connect to: ',
    errors.MemberDown,
    "Try it again: new testbeds are made on other members once 'incus cluster"
    " list' shows it as offline. Testbeds on it come back with it, and '{us}"
    " gc' then removes those that have no owner.",
    brief="A member of the cluster does not answer",
)
#: The same, of what has to be done on every member, and so is not done at all.
_EVERYWHERE = Phrase(
    r"failed to notify peer|peer node \S+ is down",
    errors.MemberDown,
    "Try it again when it is back: this is done on all members, or not at all."
    " If it is gone for good: incus cluster remove --force MEMBER",
    brief=AWAY.brief,
)
#: The same, once the cluster knows it; a server that starts may say it, too.
_NOT_READY = Phrase(
    r"Server isn't ready yet",
    errors.MemberDown,
    AWAY.resolution,
    brief="Incus, or the member of the cluster that has this, is not ready",
)
_EVACUATED = Phrase(
    r"Cluster member is evacuated",
    errors.Unsupported,
    "Choose another member, or have it take instances again: incus cluster"
    " restore NAME",
)
_NO_MEMBER = Phrase(
    r"Couldn't find a cluster member",
    errors.NoMember,
    "'{us} doctor' says why. If one of them went down just now,"
    " try it again in a minute.",
    brief="No member of the cluster takes such an instance",
)
TURNED_AWAY = Phrase(
    _NEVER,  # incus-user closes the connection without a word
    errors.Denied,
    "If Incus runs, have an admin give you a restricted project"
    " (incus-testbed setup --restricted USER). Or look why:"
    " journalctl --unit=incus-user --unit=incus",
    brief="incus-user turns you away: it has no project for you, or no Incus",
)
RESTRICTED = Phrase(
    r"Certificate is restricted|permissions? for project"
    r"|not allowed in project|(is|are) forbidden",
    errors.Restricted,
    "You may use a restricted project only, and what it allows."
    " 'incus-testbed doctor' names it.",
)
DENIED = Phrase(
    r"don't have the needed permissions|not authorized|Forbidden"
    r"|permission denied",
    errors.Denied,
    "Run as root, or have an admin give you a restricted project"
    " (incus-testbed setup --restricted USER) and log in again.",
    far=STRANGER,
)

_IMAGES = "'{us} images' lists the images there are."

#: The first that matches wins, so the narrow ones stand first.
PHRASES = (
    Phrase(
        r"no space left on device|disk quota exceeded|not enough space",
        errors.NoSpace,
        "Free space: '{us} gc --keep 0' removes what nobody owns or uses,"
        " '{us} images' lists the rest.",
        brief="There is no space left for this in Incus",
    ),
    Phrase(
        r"Unpack failed",
        errors.BadImage,
        "Remove it and import it again: {us} remove ALIAS",
        brief="Incus can't unpack the image: it is damaged",
    ),
    Phrase(
        r"Metadata tarball is missing metadata.yaml",
        errors.BadImage,
        brief="The file is no image of Incus",
    ),
    NO_CERTIFICATE,
    IMPOSTOR,
    _EVERYWHERE,
    AWAY,
    _NOT_READY,
    _EVACUATED,
    _NO_MEMBER,
    DOWN,
    GONE,
    RESTRICTED,
    DENIED,
    # Incus asks for each network card of the machine, one after the other, and
    # gives up if one goes away meanwhile, because another instance has stopped.
    Phrase(
        r"Failed to run: ip [^\n]*Device [^\n]* does not exist",
        errors.Busy,
        "Try it again.",
        brief="Incus was disturbed: a network card went away meanwhile",
    ),
    # For the same reason a bridge may not start with Incus.
    Phrase(
        r"Network [^\n]* unavailable on this server",
        errors.Busy,
        "Incus starts it within a minute: try again then. If that does not"
        " help, look why: journalctl --unit=incus",
        brief="The network of testbeds has not started with Incus",
    ),
    Phrase(
        r"(profile|network|storage pool)[^\n]*(not found|doesn't exist)"
        r"|No storage pool found",
        errors.NotFound,
        _SETUP,
    ),
    Phrase(
        r"No root device could be found",
        errors.NotFound,
        "The image's profiles give it no disk. Launch it with the profile of"
        f" testbeds, --profile=debusine. {_SETUP}",
    ),
    Phrase(
        r"relies on this profile's root disk device",
        errors.Unsupported,
        "Wait until they have ended, or stop the worker for it; then try"
        " again. '{us} status' lists them.",
        brief="Testbeds that are there keep the profile in its storage pool",
    ),
    Phrase(
        r"remote [^\n]* doesn't exist",
        errors.NotFound,
        "See: incus remote list",
    ),
    Phrase(
        r"Project not found",
        errors.NotFound,
        "See: incus project list{there}",
        brief="There is no such project",
    ),
    Phrase(
        r"Image [^\n]*not found|Image alias not found|Alias [^\n]*not found",
        errors.NotFound,
        _IMAGES,
    ),
    # A fingerprint of no image, in a request for an instance.
    Phrase(
        r"Image not provided for instance creation",
        errors.NotFound,
        _IMAGES,
        brief="The image has just been removed",
    ),
    Phrase(
        r"not found|does not exist|doesn't exist|No such file or directory"
        r"|no such file or directory|Not Found",
        errors.NotFound,
    ),
    Phrase(
        r"already exists|already defined on member|already in use"
        r"|UNIQUE constraint failed"
        r"|Alias already exists",
        errors.AlreadyExists,
    ),
    Phrase(
        r"VM agent isn't currently running|Failed to connect to (the )?agent"
        + "".join(f"|{message}" for message in api.TOO_SLOW),
        errors.AgentDown,
    ),
    Phrase(
        rf"is not running|already stopped|isn't running|{api.NOT_ATTACHED}",
        errors.NotRunning,
    ),
    Phrase(
        r"is busy|busy running|currently being|Matching .* operation",
        errors.Busy,
    ),
    Phrase(
        r"isn't supported|not supported|requirement[^\n]*not met"
        r"|doesn't support|missing the required|architecture isn't",
        errors.Unsupported,
        _DOCTOR,
    ),
)
