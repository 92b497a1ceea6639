/* What both C floors share: a pre-forking server on 127.0.0.1, and lines. */

#ifndef PREFORK_H
#define PREFORK_H

#include <stddef.h>
#include <sys/types.h>

#define LINE 512      /* octets of a line at most, with its end */

/* Serve for ever: children wait in accept, `spare` at first, later half of them at least; each lets `serve` have
   `uses` connections, one after the other, and ends.  Returns only when it cannot listen, with the exit code. */
int prefork(int port, int spare, int uses, void (*serve)(int client));

/* Read a line into `line`, which has LINE octets; returns its length without CRLF, behind which a NUL stands, or
   -1 when the other side closes, is silent for too long where that is limited, or says too much.
   Nobody sends a line before our answer to the last one. */
ssize_t read_line(int fd, char *line);

/* Send it all; returns 0, or -1 when the other side does not want it. */
int send_all(int fd, const void *data, size_t length, int flags);
int say(int fd, const char *text);

/* Return a socket of `type` that is connected to a port of this host and waits 10 s at most, or -1. */
int dial(int type, int port);

/* Return a number from the command line, or -1. */
int number_of(const char *word);

#endif
