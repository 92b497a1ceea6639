"""A service of PAM, as the demo has it; `stop` removes it."""

from pathlib import Path

from demo.pam import write_service
from tests.harness.databases import UserRow
from tests.harness.databases.files import WithoutServer
from tests.harness.databases.promises import LACKS
from tests.harness.needs import need_pam


class Service(WithoutServer):
    """One service."""

    module = "pam"
    driver = ""
    lacks = LACKS["pam"]

    def __init__(self, folder: Path) -> None:
        """Make it, without users."""
        need_pam("debug")
        self._folder, self._users = folder, dict[str, str]()
        self.start()

    def words(self) -> list[str]:
        """Return the arguments of the module; a POP3 server takes all names."""
        return [f"confdir={self._folder}", "backend=store", "protocol=pop3"]

    def add(self, *rows: UserRow) -> None:
        """Add users."""
        self._users |= {row.user: row.password for row in rows}
        self.start()

    def start(self) -> None:
        """Write everything."""
        write_service(self._folder, "popular", self._users)

    def stop(self) -> None:
        """Remove the service."""
        (self._folder / "popular").unlink()


def launch(folder: Path) -> Service:
    """Make the service."""
    return Service(folder)
