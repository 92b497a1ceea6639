"""The table of what is fuzzed: a name, a function, and inputs to begin with."""

from collections.abc import Callable, Mapping

from tests.fuzz import files, maildirs, modules, protocols

Target = Callable[[bytes], None]

TARGETS: Mapping[str, Target] = {target.__name__: target for target in (
    protocols.wire_lines, protocols.authorization, protocols.sasl_exchange, protocols.transaction,
    protocols.xpop_preamble, protocols.lmtp_session,
    protocols.backend_answer, protocols.mailcheck, protocols.ring_packets, protocols.control_line,
    protocols.control_answer, protocols.http_request, protocols.proxy_header, protocols.xclient_words,
    files.file_names, files.line_ends, files.stuffing, files.cdb_file, files.passwd_file, files.master_file,
    files.user_record, files.stored_password, files.ini_file, files.edited_ini_file, files.told_changes,
    files.size_list, files.uid_list, files.values, files.capability_list, files.state_file,
    files.text_of_users, files.log_word, maildirs.dovecot_list, maildirs.courier_list,
    modules.dovecot_line, modules.program_answer, modules.http_headers,
    modules.token, modules.token_parts, modules.token_explained, modules.key_set)}
