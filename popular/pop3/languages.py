"""The texts of our answers in other languages than English, and the command LANG (RFC 6856).

Used in the children of pproxy and pserv.  Texts are ASCII, as in all of POP3 before a client asks for UTF-8: German is
worded without umlauts.  Response codes and what a program reads are the same in all languages.  A text that is not in
the table stays as it is: the banner, and what a backend says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from popular.errors import CommandRefused
from popular.net.wire import Wire
from popular.pop3.command import State, command

_VARIABLE = re.compile(r"SCRAM-[A-Z0-9-]+|(?<![\w-])[0-9]+\b")    # what stands for # in a text

# By the English text; # is a number or the name of a mechanism, in the same order in both.
GERMAN: Mapping[str, str] = {
    "# messages (# octets)": "# Nachrichten (# Oktette)",
    "# of # messages not removed": "# von # Nachrichten nicht entfernt",
    "APOP needs a user name and a digest": "APOP braucht Benutzernamen und Digest",
    "AUTH needs a mechanism": "AUTH braucht ein Verfahren",
    "Authentication failed": "Anmeldung fehlgeschlagen",
    "authentication cancelled": "Anmeldung abgebrochen",
    "begin TLS now": "jetzt mit TLS beginnen",
    "bye": "auf Wiedersehen",
    "capability list follows": "es folgt die Liste der Erweiterungen",
    "CAPA takes no argument": "CAPA hat kein Argument",
    "control character in user name": "Steuerzeichen im Benutzernamen",
    "CRAM-MD5 needs a name and a digest": "CRAM-MD5 braucht Namen und Digest",
    "DELE needs one message number": "DELE braucht die Nummer einer Nachricht",
    "empty line": "leere Zeile",
    "internal error, please try again later": "interner Fehler, bitte versuchen Sie es nachher noch einmal",
    "LANG takes at most one language": "LANG hat als Argument eine Sprache oder keines",
    "LAST takes no argument": "LAST hat kein Argument",
    "LIST takes at most one message number": "LIST hat als Argument die Nummer einer Nachricht oder keines",
    "Logins to this mailbox must be further apart": "Zwischen Anmeldungen an diesem Postfach muss mehr Zeit liegen",
    "languages follow": "es folgen die Sprachen",
    "line end or NUL in password": "Zeilenende oder NUL im Passwort",
    "line too long": "Zeile zu lang",
    "mailbox cannot be opened now": "Postfach kann jetzt nicht benutzt werden",
    "mailbox could not be updated": "Postfach konnte nicht aktualisiert werden",
    "maildrop has # messages (# octets)": "im Postfach sind # Nachrichten (# Oktette)",
    "message # cannot be read now": "Nachricht # kann jetzt nicht gelesen werden",
    "message # deleted": "Nachricht # wird entfernt",
    "message # is deleted": "Nachricht # ist als entfernt markiert",
    "message # is gone": "Nachricht # ist nicht mehr da",
    "NOOP takes no argument": "NOOP hat kein Argument",
    "no channel binding without a mechanism for it": "Channel Binding gibt es bei diesem Verfahren nicht",
    "no message #, the mailbox has #": "keine Nachricht #, im Postfach sind #",
    "no password": "kein Passwort",
    "no password without TLS": "kein Passwort ohne TLS",
    "no such language": "diese Sprache gibt es hier nicht",
    "no such mailbox": "dieses Postfach gibt es nicht",
    "no such mechanism": "dieses Verfahren gibt es hier nicht",
    "no such mechanism without TLS": "dieses Verfahren gibt es hier nicht ohne TLS",
    "no user name": "kein Benutzername",
    "not a message number": "keine Nummer einer Nachricht",
    "not a number of lines": "keine Zahl von Zeilen",
    "not base64": "nicht in base64",
    "not the final message of #": "nicht die letzte Mitteilung von #",
    "not the first message of #": "nicht die erste Mitteilung von #",
    "not UTF-8, or with characters that may not be used": "nicht in UTF-8, oder mit Zeichen, die nicht erlaubt sind",
    "nothing more was to be said": "hier war nichts mehr zu sagen",
    "OAUTHBEARER needs a message with a bearer token": "OAUTHBEARER braucht eine Mitteilung mit einem Token",
    "# octets": "# Oktette",
    "PASS needs a password": "PASS braucht ein Passwort",
    "PLAIN needs two NUL": "PLAIN braucht zweimal NUL",
    "password please": "bitte das Passwort",
    "message too long": "Nachricht zu lang",
    "password too long": "Passwort zu lang",
    "QUIT takes no argument": "QUIT hat kein Argument",
    "RETR needs one message number": "RETR braucht die Nummer einer Nachricht",
    "RSET takes no argument": "RSET hat kein Argument",
    "STAT takes no argument": "STAT hat kein Argument",
    "STLS takes no argument": "STLS hat kein Argument",
    "stray CR in command": "einzelnes CR in einem Befehl",
    "Temporary problem, please try again later": "Das geht zurzeit nicht, bitte versuchen Sie es nachher noch einmal",
    "The owner of this mailbox has not allowed access to it, or has withdrawn that":
        "Der Zugriff auf dieses Postfach ist nicht erlaubt worden, oder nicht mehr",
    "this mechanism has no initial response": "dieses Verfahren hat keine erste Antwort im Befehl",
    "the final message does not belong to the first": "die letzte Mitteilung passt nicht zur ersten",
    "The mailbox is being moved, please try again in a few minutes":
        "Das Postfach wird gerade verlegt, bitte versuchen Sie es in einigen Minuten noch einmal",
    "the proof is not base64": "der Beweis ist nicht in base64",
    "too many errors": "zu viele Fehler",
    "Too many failed logins, please try again later":
        "Zu viele misslungene Anmeldungen, bitte versuchen Sie es nachher noch einmal",
    "Too many sessions": "Zu viele Sitzungen",
    "TOP needs a message number and a number of lines":
        "TOP braucht die Nummer einer Nachricht und eine Zahl von Zeilen",
    "top of message follows": "es folgt der Anfang der Nachricht",
    "UIDL takes at most one message number": "UIDL hat als Argument die Nummer einer Nachricht oder keines",
    "unique ids follow": "es folgen die Kennungen",
    "unknown command": "unbekannter Befehl",
    "USER first": "zuerst USER",
    "USER needs a user name": "USER braucht einen Benutzernamen",
    "user name too long": "Benutzername zu lang",
    "user name with a bare =": "Benutzername mit einem einzelnen =",
    "UTF8 takes no argument": "UTF8 hat kein Argument",
    "UTF-8 it is": "von jetzt an UTF-8",
    "XOAUTH2 needs a message with a bearer token": "XOAUTH2 braucht eine Mitteilung mit einem Token",
    "your language is English": "von jetzt an auf Deutsch",
}


@dataclass(frozen=True, slots=True)
class Language:
    """A language, called with an English text; returns that text in the language."""

    tag: str                                              # a language tag, in lower case
    title: str                                            # what it calls itself
    texts: Mapping[str, str] = field(repr=False)

    def __call__(self, text: str) -> str:
        found = self.texts.get(_VARIABLE.sub("#", text))
        if found is None:
            return text
        variables = iter(_VARIABLE.findall(text))
        return re.sub("#", lambda sign: next(variables), found)


# A client that has said nothing has i-default, which every server must know (RFC 6856).
ENGLISH = Language("i-default", "English", {})
LANGUAGES: Mapping[str, Language] = {
    language.tag: language
    for language in (ENGLISH, Language("en", "English", {}), Language("de", "Deutsch", GERMAN))}


class SpeakingState(State):
    """A state with the command LANG; `_has_lang` says whether it exists."""

    _wire: Wire
    _has_lang: bool

    @command("LANG", (0, 1), usage="takes at most one language", when=lambda state: state._has_lang)
    def lang(self, wanted: bytes | None = None) -> None:
        """List the languages, or answer in another one from now on; `*` is the one that we prefer."""
        if wanted is None:
            lines = [f"+OK {self._wire.said('languages follow')}"]
            lines += [f"{language.tag} {language.title}" for language in LANGUAGES.values()]
            self._wire.send("\r\n".join([*lines, ".", ""]).encode("ascii"))
            return
        asked = "i-default" if wanted == b"*" else wanted.decode("ascii", "replace").lower()
        language = LANGUAGES.get(asked) or LANGUAGES.get(asked.partition("-")[0])
        if language is None:
            raise CommandRefused("no such language", is_own_fault=False)
        speak(self._wire, language.tag)
        self._wire.reply(True, f"{language.tag} {self._wire.said('your language is English')}")


def speak(wire: Wire, tag: str) -> None:
    """Answer on a wire in one of LANGUAGES from now on."""
    language = LANGUAGES[tag]
    wire.language = language if language.texts else None


def spoken_on(wire: Wire) -> str:
    """Return the tag of the language in which is answered on a wire; empty: nothing but English is wanted."""
    return wire.language.tag if isinstance(wire.language, Language) else ""
