"""Control commands that arrive over the master's control socket.

Each line is matched, masked, carried out, logged and answered; if anything is wrong with it, nothing of it
is done.  Runs in the master's loop.  Only `open` raises StartError.
"""

from collections.abc import Callable, Sequence
from typing import Any

from popular.addresses import Endpoint
from popular.config.mistakes import ConfigError
from popular.config.store import Config
from popular.control.answer import WARNING, ControlAnswer, Later
from popular.control.grammar import Command, CommandArguments, join_words, split_words
from popular.control.place import Place
from popular.control.server import ControlServer
from popular.daemon.admin.context import CommandContext, Commands, Handler, Result
from popular.daemon.admin.inquiry import Inquiry
from popular.daemon.admin.trust import want_right
from popular.daemon.child.accept import reads_files, tls_of
from popular.daemon.master.loop import Master
from popular.daemon.messages import (
    COMMAND, COMMAND_FAILED, COMMAND_REFUSED, CONTROL_CHILD, CONTROL_FAILED, CONTROL_STRANGER, FILE_VALUES_UNUSED,
    RELOADED)
from popular.daemon.reload.apply import Changes, Sync
from popular.daemon.reload.merge import merge
from popular.daemon.reload.reload import Reload
from popular.daemon.tls import kept
from popular.daemon.upgrade.rerun import Origin
from popular.errors import PopularError, UsageError
from popular.log.message import Message
from popular.log.once import OnceAMinute
from popular.log.trace import places
from popular.proc.child import Inheritance
from popular.unix.rights import Peer

MAX_REASONS = 20    # of one failure in the log


class Control:
    """The control socket of one master."""

    def __init__(self, master: Master, commands: Commands, origin: Origin, inheritance: Inheritance) -> None:
        """Obey `commands`; `origin` is how the daemon was started, for reload; `inheritance` is for new processes."""
        self._master = master
        self._commands = commands
        self._origin = origin
        self._changes = Changes(master)
        self._inheritance = inheritance
        self._reload: Reload | None = None
        self._inquiry: Inquiry | None = None
        self._strangers, self._children = OnceAMinute(), OnceAMinute()
        rundir = master.config.variables.text("rundir")
        self._server = ControlServer(Place(rundir, master.spec.name), master.watch, self.obey, self._note_stranger,
                                     self._note_child, lambda: [peer.pid for peer in master.peers if peer.pid])

    def open(self, beside: bool = False) -> None:
        """Begin to listen, `beside` another master in an upgrade; raises StartError."""
        self._server.open(beside)

    def publish(self) -> None:
        """Put the socket in the place of another master's; raises OSError."""
        self._server.publish()

    def close(self) -> None:
        """End all connections and remove the socket."""
        self._server.close()

    def patience(self, now: float) -> float | None:
        """Return the seconds after which `attend` is due even without an event; None: never."""
        waits = (self._server.patience(now), self._changes.patience(now))
        return min((wait for wait in waits if wait is not None), default=None)

    def attend(self) -> None:
        """Continue what is under way."""
        self._server.attend()
        self._changes.attend(self._server.is_quiet)

    def obey(self, line: str, peer: Peer) -> ControlAnswer | Later:
        """Carry out one line."""
        source = f"uid {peer.uid}"
        words: list[str] = []
        shown = "***"
        try:
            words = split_words(line)
            if not words:
                return ControlAnswer(True)
            shown = join_words(words[:self._commands.known_words(words)]) + " ***"
            command, given = self._commands.find(words)
            context = self._context()
            shown = _public(command, context, given, words)
            answer = self._carry_out(command.handler(context, given), peer)
        except (PopularError, OSError) as why:
            return self._refuse(source, shown, why)
        except Exception as error:    # a fault in one command must not end the master
            return self._fault(shown, error)
        self._master.log.note(COMMAND, source=source, words=shown)
        if not isinstance(answer, ControlAnswer):
            return Awaited(answer, lambda failed: self._note_failure(COMMAND_FAILED, source, shown, failed))
        if not answer.ok:    # an effect that was tried
            self._note_failure(COMMAND_FAILED, source, shown, answer)
        return answer

    def sync(self) -> Later:
        """Wait until new connections see the Config."""
        return Sync(self._changes, self._master.supervisor)

    def reload(self) -> Later:
        """Read the INI file again; raises UsageError if it is being read already, and OSError."""
        if self._reload is not None and not self._reload.is_over:
            raise UsageError("the file is being read already")
        self._master.want_no_end()
        master = self._master
        self._reload = Reload(self._origin, master.spec.schema, master.watch, self._take_file,
                              master.notify.reload_ends)
        master.notify.reload_begins()
        return self._reload

    def upgrade(self) -> Later:
        """Start a new master; raises UsageError when there is one, or a file is being read, and OSError."""
        if self._reload is not None and not self._reload.is_over:
            raise UsageError("the file is being read")
        return self._master.begin_upgrade()

    def inquire(self, ask: Callable[[Any], ControlAnswer]) -> Later:
        """Have a separate process answer; raises UsageError if another one is doing so, and OSError."""
        if self._inquiry is not None and not self._inquiry.is_over:
            raise UsageError("another question is being answered; try again in a moment")
        self._inquiry = Inquiry(self._master, self._inheritance, ask)
        return self._inquiry

    def _carry_out(self, result: Result, peer: Peer) -> ControlAnswer | Later:
        """Do what a command of `peer` returned; if this raises PopularError, nothing of it is done."""
        master = self._master
        if result.config is not None and (result.renews or result.config != master.config):
            want_right(peer, master.config, result.config, master.base, master.spec.schema)
            master.want_no_end()
            self._changes.put(result.config)
        troubles = () if result.effect is None else result.effect(master)
        if troubles:
            return ControlAnswer(False, "not everything could be done", tuple(troubles))
        if result.later is not None:
            return result.later(self)
        return ControlAnswer(True, result.text, result.lines)

    def _take_file(self, config: Config, given: frozenset[str]) -> ControlAnswer:
        """Put the configuration from the file into force; the answer lists the changes."""
        master = self._master
        try:
            master.want_no_end()
            merged = merge(master.config, master.base, config, given, master.spec.schema)
            if merged.config != master.config or reads_files(master.job):
                self._changes.put(merged.config)
        except (PopularError, OSError) as why:
            return refusal(why)
        except Exception as error:    # as for any command
            return self._fault("reload", error)
        master.base = config
        master.log.note(RELOADED, changes=len(merged.changes))
        text = "reloaded" if merged.changes else "reloaded, no setting changed"
        if merged.unused:
            names = ", ".join(each.what for each in merged.unused)
            master.log.note(FILE_VALUES_UNUSED, count=len(merged.unused), values=names)
            text += f"; values of the file that are not used: {len(merged.unused)}"
        warnings = (*merged.unused, *kept(tls_of(master.job)))
        return ControlAnswer(True, text, (*merged.changes, *(f"{WARNING}{each}" for each in warnings)))

    def _context(self) -> CommandContext:
        """Return what a command gets."""
        master = self._master
        listening: dict[str, list[Endpoint]] = {}
        for listener in master.listeners:
            listening.setdefault(listener.owner, []).append(listener.endpoint)
        return CommandContext(master.config, master.spec.schema, self._commands, listening, master.sessions,
                              master.base, tls_of(master.job), master.walls, master.job)

    def _refuse(self, source: str, shown: str, why: PopularError | OSError) -> ControlAnswer:
        """Log and answer a command that was not carried out."""
        answer = refusal(why)
        self._note_failure(COMMAND_REFUSED, source, shown, answer)
        return answer

    def _note_failure(self, message: Message, source: str, shown: str, answer: ControlAnswer) -> None:
        """Log a line for each reason, as long lines are cut; leave out usage lines."""
        reasons = [line for line in answer.lines if not line.startswith("usage: ")]
        more = [f"and {len(reasons) - MAX_REASONS} more"] if len(reasons) > MAX_REASONS else []
        for why in [*reasons[:MAX_REASONS], *more] or [answer.text]:
            self._master.log.note(message, source=source, words=shown, why=why)

    def _fault(self, shown: str, error: Exception) -> ControlAnswer:
        self._master.log.note(CONTROL_FAILED, words=shown, type=type(error).__name__, trace=places(error))
        return ControlAnswer.refusal("internal error, nothing was changed; the log tells more")

    def _note_stranger(self, peer: Peer) -> None:
        if self._strangers.is_due():
            self._master.log.note(CONTROL_STRANGER, uid=peer.uid, process=peer.pid)

    def _note_child(self, child: int) -> None:
        master = self._master
        master.statefile.count("control_refused")
        if self._children.is_due():
            master.supervisor.hear()    # that it has a session may be news
            row = next((row for row in master.supervisor.sessions() if row.pid == child), None)
            with master.log.about(row.sid if row else ""):
                master.log.note(CONTROL_CHILD, child=child, client=str(row.client) if row and row.client else "")


class Awaited:
    """A late answer that is logged if it is a failure."""

    def __init__(self, later: Later, note: Callable[[ControlAnswer], None]) -> None:
        """Wait for `later`; `note` is called with an answer that reports a failure."""
        self._later = later
        self._note = note

    @property
    def deadline(self) -> float:
        """When to give up."""
        return self._later.deadline

    def look(self) -> ControlAnswer | None:
        """Return the answer if it is there."""
        answer = self._later.look()
        return None if answer is None else self._noted(answer)

    def give_up(self) -> ControlAnswer:
        """Return the answer for a deadline that has passed."""
        return self._noted(self._later.give_up())

    def abandon(self) -> bool:
        """Stop, if possible, because the client has gone."""
        was_stopped = self._later.abandon()
        if was_stopped:
            self._note(ControlAnswer(False, "given up, because whoever gave the command did not wait for the answer"))
        return was_stopped

    def _noted(self, answer: ControlAnswer) -> ControlAnswer:
        if not answer.ok:
            self._note(answer)
        return answer


def refusal(why: PopularError | OSError) -> ControlAnswer:
    """Return the answer for an error that kept a command from being carried out."""
    text = f"{why.strerror}" if isinstance(why, OSError) else str(why)
    if isinstance(why, ConfigError) and len(why.mistakes) > 1:
        return ControlAnswer(False, f"{len(why.mistakes)} mistakes, nothing was changed", tuple(text.splitlines()))
    return ControlAnswer.refusal(text)


def _public(command: Command[Handler], context: CommandContext, given: CommandArguments, words: Sequence[str]) -> str:
    """Return the words of a command as the log may show them."""
    return join_words(words) if command.mask is None else command.mask(context, given)
