"""PAM of the system: is the password right, and may the account be used?  No session is opened, no credentials are set.

Runs in a PDM worker; importing it loads ctypes, and the first call the library.  A PAM module may take any time and
cannot be interrupted, except by the end of the process.  Raises PdmError if the library is missing or PAM fails.

Written for Linux-PAM 1.4 and later.  The Python packages for it run programs to find the library, wait after a wrong
password, cannot name the client's address, and know no other folder of services.
"""

import ctypes
import os
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_uint, c_void_p, cast
from dataclasses import dataclass
from typing import Any

from popular.errors import PdmError

MAX_PAM_PASSWORD = 511    # octets that fit into an answer with its NUL, PAM_MAX_RESP_SIZE
FOLDERS = ("/etc/pam.d", "/usr/lib/pam.d")    # of services, where distributions have them

# results
SUCCESS, PERM_DENIED, AUTH_ERR, USER_UNKNOWN, MAXTRIES, NEW_AUTHTOK_REQD, ACCT_EXPIRED, AUTHTOK_EXPIRED = (
    0, 6, 7, 10, 11, 12, 13, 27)

REFUSALS = frozenset((PERM_DENIED, AUTH_ERR, USER_UNKNOWN, MAXTRIES, NEW_AUTHTOK_REQD, ACCT_EXPIRED, AUTHTOK_EXPIRED))

_BUF_ERR = 5
_USER, _RHOST, _FAIL_DELAY = 2, 4, 10              # items
_ECHO_OFF = 1                                      # the style of a question for the password
_SILENT, _DISALLOW_NULL_AUTHTOK = 0x8000, 0x0001    # flags


class _Message(Structure):
    _fields_ = [("style", c_int), ("text", c_char_p)]


class _Response(Structure):
    _fields_ = [("text", c_void_p), ("code", c_int)]


_CONVERSE = CFUNCTYPE(c_int, c_int, POINTER(POINTER(_Message)), POINTER(c_void_p), c_void_p)
_DELAY = CFUNCTYPE(None, c_int, c_uint, c_void_p)


class _Conversation(Structure):
    _fields_ = [("converse", _CONVERSE), ("data", c_void_p)]


@dataclass(frozen=True, slots=True)
class PamAnswer:
    """What PAM says about one login."""

    code: int           # one of the results
    why: str            # the same in the library's words
    user: bytes         # the name as PAM's modules have left it
    is_account: bool    # the password is right, and the code is that of the account check


class Pam:
    """A service."""

    def __init__(self, service: str, confdir: str = "") -> None:
        """Use `service`, from the folder `confdir` instead of the system's if it is given; raises PdmError.

        Without the check here, PAM would take the service `other` for one that does not exist, and refuse everybody.
        """
        folders = (confdir,) if confdir else FOLDERS
        if not any(os.path.exists(os.path.join(folder, service)) for folder in folders):
            raise PdmError(f"{folders[0]}/{service}: No such file or directory")
        self._service, self._confdir = service.encode(), confdir.encode() or None
        try:
            self._pam: Any = ctypes.CDLL("libpam.so.0")
            self._start = self._pam.pam_start_confdir if confdir else self._pam.pam_start
        except (OSError, AttributeError) as why:
            raise PdmError(f"needs Linux-PAM 1.4: {why}") from None
        self._libc: Any = ctypes.CDLL(None)
        self._libc.calloc.restype = self._libc.strdup.restype = c_void_p
        self._libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
        self._pam.pam_strerror.restype = c_char_p
        for name in ("authenticate", "acct_mgmt", "end", "strerror"):
            getattr(self._pam, f"pam_{name}").argtypes = (c_void_p, c_int)
        self._pam.pam_set_item.argtypes = (c_void_p, c_int, c_void_p)
        self._pam.pam_get_item.argtypes = (c_void_p, c_int, POINTER(c_void_p))

    def probe(self) -> None:
        """Raise PdmError if PAM cannot use the service; this tries no login."""
        self._run(b"nobody", b"", "", lambda handle: PamAnswer(SUCCESS, "", b"", False))

    def check(self, user: bytes, password: bytes, host: str) -> PamAnswer:
        """Return what PAM says of a user at the address `host`; raises PdmError.

        Neither `user` nor `password` has NUL, and the password has at most MAX_PAM_PASSWORD octets.
        """
        flags = _SILENT | _DISALLOW_NULL_AUTHTOK

        def ask(handle: c_void_p) -> PamAnswer:
            code = self._pam.pam_authenticate(handle, flags)
            is_account = code == SUCCESS
            if is_account:
                code = self._pam.pam_acct_mgmt(handle, flags)
            name = c_void_p()
            self._pam.pam_get_item(handle, _USER, byref(name))
            return PamAnswer(code, self._text(handle, code), cast(name, c_char_p).value or user, is_account)
        return self._run(user, password, host, ask)

    def _run(self, user: bytes, password: bytes, host: str, ask: Callable[[c_void_p], PamAnswer]) -> PamAnswer:
        """Return what `ask` returns for a handle of PAM."""
        converse = _CONVERSE(self._answers(password))
        conversation, delay, handle = _Conversation(converse, None), _DELAY(lambda *_: None), c_void_p()
        words = (self._service, user, byref(conversation), *([self._confdir] if self._confdir else []), byref(handle))
        code = self._start(*words)
        if code != SUCCESS:
            raise PdmError(f"PAM cannot use the service {self._service.decode()}: {self._text(handle, code)}")
        try:
            if host:
                self._pam.pam_set_item(handle, _RHOST, host.encode())
            # no waiting after a wrong password: pproxy has a delay of its own
            self._pam.pam_set_item(handle, _FAIL_DELAY, cast(delay, c_void_p))
            answer: PamAnswer = ask(handle)
        finally:
            self._pam.pam_end(handle, code)
        return answer

    def _answers(self, password: bytes) -> Any:
        """Return the function that PAM's modules call with their questions."""
        def converse(count: int, messages: Any, responses: Any, data: object) -> int:
            # the library frees this memory
            memory = self._libc.calloc(count, ctypes.sizeof(_Response))
            if not memory:
                return _BUF_ERR
            answers = cast(memory, POINTER(_Response))
            for number in range(count):
                if messages[number].contents.style == _ECHO_OFF:
                    answers[number].text = self._libc.strdup(password)
            responses[0] = memory
            return SUCCESS
        return converse

    def _text(self, handle: c_void_p, code: int) -> str:
        text: bytes | None = self._pam.pam_strerror(handle, code)
        return (text or b"").decode("utf-8", "replace")
