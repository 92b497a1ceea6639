"""What modules that pdeliver loads use of `typing`: it is a new process for each mail, and `typing` is a tenth of it.

Type checkers see the originals.
"""

TYPE_CHECKING = False    # type checkers take a variable with this name for true
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
else:
    Any = Protocol = object
    NoReturn = None
