"""Mail clients of other people, each made to log in by one mechanism and to read a message.

Also a dialogue like Thunderbird's, which waits for a challenge where others send an initial response.  In all of them
"USER" stands for USER and PASS, and the secret of XOAUTH2 and OAUTHBEARER is a token.
"""

import hashlib
import hmac
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.harness.certificates import Authority, context_of
from tests.harness.clients import PASSWORD, Account, Fetchmail
from tests.harness.needs import lacking, need_program
from tests.harness.popclient import PopClient
from tests.harness.ptyscreen import Terminal

SUBJECT = "A letter from home"
TOKENS = ("XOAUTH2", "OAUTHBEARER")

_SECONDS = 60.0
_PERL = r"""
    use strict; use warnings; use Net::POP3; use MIME::Base64; use Authen::SASL; use Authen::SCRAM::Client;
    my ($port, $user, $secret, $mechanism, $cafile, $certificate, $key) = @ARGV;
    my $pop = Net::POP3->new('127.0.0.1', Port => $port, Timeout => 30) or die "no connection: $@\n";
    !$cafile or $pop->starttls(SSL_ca_file => $cafile, SSL_cert_file => $certificate, SSL_key_file => $key)
        or die "no TLS: ", $pop->message;

    sub said { $pop->command(@_)->response == Net::Cmd::CMD_MORE or die "refused: ", $pop->message;
               decode_base64(($pop->message)[0]) }
    if ($mechanism eq 'USER') { defined $pop->login($user, $secret) or die "refused: ", $pop->message }
    elsif ($mechanism eq 'APOP') { defined $pop->apop($user, $secret) or die "refused: ", $pop->message }
    elsif ($mechanism =~ /^SCRAM-(SHA-\d+)/) {
        my $scram = Authen::SCRAM::Client->new(username => $user, password => $secret, digest => $1);
        my $challenge = said('AUTH', $mechanism, encode_base64($scram->first_msg, ''));
        $scram->validate(said(encode_base64($scram->final_msg($challenge), '')));
        $pop->command('')->response == Net::Cmd::CMD_OK or die "refused: ", $pop->message;
    } else {
        my $sasl = Authen::SASL->new(mechanism => $mechanism,
                                     callback => { user => $user, pass => $secret, authname => '' });
        $pop->auth($sasl) or die "refused: ", $pop->message;
    }
    print @{ $pop->get(1) };
    $pop->quit;
"""


@dataclass(frozen=True, slots=True)
class Login:
    """What a client is told; with `authority` it uses STLS, with the certificate in `pair`."""

    endpoint: Endpoint
    user: str
    secret: str
    mechanism: str
    folder: Path
    authority: Authority | None = None
    pair: KeyPair | None = None

    @property
    def tls(self) -> tuple[str, str, str]:
        """The files of authority, certificate and key; empty texts without TLS."""
        if self.authority is None or self.pair is None:
            return "", "", ""
        return self.authority.cafile, self.pair.certificate, self.pair.key


def curl(login: Login) -> bool:
    """Curl sends an initial response."""
    option = "+APOP" if login.mechanism == "APOP" else login.mechanism
    words = [need_program("curl"), "-sS", "--max-time", "40", "--sasl-ir", "--login-options", f"AUTH={option}"]
    if login.mechanism in TOKENS:
        words += ["-u", f"{login.user}:", "--oauth2-bearer", login.secret]
    else:
        words += ["-u", f"{login.user}:{login.secret if login.mechanism != 'EXTERNAL' else ''}"]
    if login.authority is not None:
        words += [word for pair in zip(("--cacert", "--cert", "--key"), login.tls) for word in pair] + ["--ssl-reqd"]
    return _has_read(_run([*words, f"pop3://127.0.0.1:{login.endpoint.port}/1"]))


def mpop(login: Login) -> bool:
    """Mpop, with GNU SASL; it also checks the server's part of SCRAM."""
    cafile, certificate, key = login.tls
    tls = ["--tls=off"] if not cafile else [
        "--tls=on", "--tls-starttls=on", f"--tls-trust-file={cafile}", f"--tls-cert-file={certificate}",
        f"--tls-key-file={key}"]
    box = login.folder / f"mpop-{login.mechanism}-{login.user}"
    subprocess.run([need_program("mpop"), "--host=127.0.0.1", f"--port={login.endpoint.port}", *tls,
                    f"--auth={login.mechanism.lower()}", f"--user={login.user}",
                    f"--passwordeval=echo '{login.secret}'", f"--delivery=mbox,{box}", "--keep=on",
                    f"--uidls-file={box}.uidls"], capture_output=True, timeout=_SECONDS)
    return box.exists() and SUBJECT in box.read_text()


def mutt(login: Login) -> bool:
    """Mutt, with GNU SASL; it always waits for a challenge, and names the user twice."""
    settings = login.folder / "muttrc"
    settings.write_text(
        f'set pop_authenticators="{login.mechanism.lower()}" pop_pass="{login.secret}" folder="{login.folder}"\n'
        f'set pop_oauth_refresh_command="echo {login.secret}"\n'
        'set ssl_starttls=no ssl_force_tls=no quit=yes sleep_time=0\n')
    words = [need_program("mutt"), "-n", "-F", str(settings), "-f",
             f"pop://{login.user}@127.0.0.1:{login.endpoint.port}/"]
    with Terminal(words, env={"HOME": str(login.folder), "TERM": "xterm"}) as terminal:
        terminal.wait_screen(lambda text: any(word in text for word in (SUBJECT, "ailed", "-ERR"))
                             or terminal.process.poll() is not None, "the end of mutt's login")
        is_in = SUBJECT in terminal.text
        if terminal.process.poll() is None:
            terminal.type("q")
        terminal.wait()
    return is_in


def fetchmail(login: Login) -> bool:
    """Fetchmail knows few mechanisms; its password is always the same one."""
    assert login.secret == PASSWORD
    option = {"USER": "auth password", "APOP": "protocol apop", "CRAM-MD5": "auth cram-md5"}[login.mechanism]
    home = login.folder / f"fetchmail-{login.mechanism}-{login.user}"
    home.mkdir(mode=0o755)
    try:
        messages = Fetchmail(option).fetch(Account(login.endpoint, login.user, home), keep=True)
    except AssertionError:    # its exit code
        return False
    return SUBJECT.encode() in b"".join(messages)


def perl(login: Login) -> bool:
    """Net::POP3 with Authen::SASL, and Authen::SCRAM."""
    done = _run([need_program("perl"), "-e", _PERL, str(login.endpoint.port), login.user, login.secret, login.mechanism,
                 *login.tls])
    if b"Can't locate " in done.stderr:
        lacking(f"a package of Perl ({done.stderr[:60]!r})")
    return _has_read(done)


def thunderbird(login: Login) -> bool:
    """A dialogue as Thunderbird has it."""
    with PopClient(login.endpoint) as client:
        client.greeting()
        client.multi("CAPA")
        if login.authority is not None and login.pair is not None:
            client.ok("STLS")
            context = context_of(login.authority)
            context.load_cert_chain(login.pair.certificate, login.pair.key)
            client.sock = context.wrap_socket(client.sock)
            client.multi("CAPA")
        if not _speak(client, login):
            client.ok("QUIT")
            return False
        assert client.ok("STAT").startswith(b"1 ")
        assert len(client.multi("LIST")) == len(client.multi("UIDL")) == 1
        message = client.message(1)
        client.ok("QUIT")
        return SUBJECT.encode() in message


CLIENTS: Mapping[str, Callable[[Login], bool]] = {
    "curl": curl, "mpop": mpop, "mutt": mutt, "fetchmail": fetchmail, "perl": perl, "thunderbird": thunderbird}


def _run(words: list[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(words, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)


def _has_read(done: "subprocess.CompletedProcess[bytes]") -> bool:
    return done.returncode == 0 and SUBJECT.encode() in done.stdout


def _speak(client: PopClient, login: Login) -> bool:
    """Do what the mechanism demands; return whether that was good."""
    user, secret = login.user.encode(), login.secret.encode()
    if login.mechanism == "USER":
        client.ok(b"USER " + user)
        return client.command(b"PASS " + secret).startswith(b"+OK")
    answer = client.command(f"AUTH {login.mechanism}")
    for message in {
            "PLAIN": [b"\0" + user + b"\0" + secret], "LOGIN": [user, secret], "EXTERNAL": [user],
            "XOAUTH2": [b"user=" + user + b"\1auth=Bearer " + secret + b"\1\1"],
            "CRAM-MD5": [user + b" " + hmac.new(secret, b64decode(answer[2:]), hashlib.md5).hexdigest().encode()],
            }[login.mechanism]:
        assert answer.startswith(b"+ ")
        answer = client.command(b64encode(message))
    if answer.startswith(b"+ "):    # why the token is refused
        answer = client.command(b"")
    return answer.startswith(b"+OK")
