"""The control commands of plmtpd (design 6.4): those of every daemon, and for servers and database modules."""

from popular.control.grammar import CommandSet
from popular.daemon.admin import pdm, server
from popular.daemon.admin.commands import commands as common
from popular.daemon.admin.context import Commands

commands: Commands = CommandSet(common, server.commands, pdm.commands)
