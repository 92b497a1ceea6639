"""The control commands of pserv (spec 2.2, design 6.4): those of every daemon, and for capability lists and servers."""

from popular.control.grammar import CommandSet
from popular.daemon.admin import capa, server
from popular.daemon.admin.commands import commands as common
from popular.daemon.admin.context import Commands

commands: Commands = CommandSet(common, capa.commands, server.commands)
