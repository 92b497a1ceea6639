/* The smallest pre-forking POP3 proxy that one can write in C: what the kernel needs for the work of pproxy.

       floor_proxy PORT CHECKS BACKEND USES SPARE

   Children serve USES connections each.  One believes every name and password, asks the pcheckd on port CHECKS for
   mail, plays an empty mailbox itself, and leaves all others to the pserv on port BACKEND.  With 0 for CHECKS it knows
   no POP3 and passes on everything from the greeting on.  What is long goes through a pipe inside the kernel. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "prefork.h"

#define BLOCK 16384           /* octets copied at a time; more than that comes through the pipe */
#define PIPE (256 * 1024)     /* octets of the pipe, and asked for at a time; larger and smaller ones cost more */

static int checks_port, backend_port;
static int checks = -1;       /* a child's socket for mail checks, from its first question on */

/* Move what the pipe holds; returns 0, or -1 when the sink does not want it. */
static int empty_pipe(int from, int sink, ssize_t held)
{
    while (held > 0) {
        ssize_t count = splice(from, NULL, sink, NULL, (size_t)held, SPLICE_F_MOVE);

        if (count <= 0)
            return -1;
        held -= count;
    }
    return 0;
}

/* Move what has come; returns 0, or -1 when one side has closed.  A block that comes full makes the pipe. */
static int move(int source, int sink, int pipefd[2])
{
    char block[BLOCK];
    ssize_t count;

    if (pipefd[0] >= 0) {
        count = splice(source, NULL, pipefd[1], NULL, PIPE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        return count > 0 ? empty_pipe(pipefd[0], sink, count) : -1;
    }
    count = recv(source, block, sizeof block, 0);
    if (count <= 0)
        return -1;
    if (count == sizeof block) {
        if (pipe2(pipefd, O_CLOEXEC) < 0)
            return -1;
        fcntl(pipefd[0], F_SETPIPE_SZ, PIPE);       /* without the right to it: as large as it is */
    }
    return send_all(sink, block, (size_t)count, 0);
}

/* Pass on what both sides say until one of them closes. */
static void relay(int client, int server)
{
    struct pollfd sides[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    int pipefd[2] = {-1, -1}, is_open = 1;

    while (is_open && poll(sides, 2, -1) > 0)
        for (int side = 0; side < 2 && is_open; side++)
            if (sides[side].revents)
                is_open = move(sides[side].fd, sides[!side].fd, pipefd) == 0;
    if (pipefd[0] >= 0) {
        close(pipefd[0]);
        close(pipefd[1]);
    }
}

/* Ask whether a mailbox has mail; returns the digit of the answer, or -1. */
static int ask(const char *mailbox)
{
    char packet[LINE + 8];
    int length = snprintf(packet, sizeof packet, "*M%s", mailbox);

    if (checks < 0)
        checks = dial(SOCK_DGRAM, checks_port);
    if (send(checks, packet, (size_t)length, 0) == length) {
        ssize_t count = recv(checks, packet, sizeof packet, 0);

        if (count > 4 && memcmp(packet, "+OK ", 4) == 0)
            return packet[4] - '0';
    }
    close(checks);                  /* a late answer must not be taken for the next one */
    checks = -1;
    return -1;
}

static void play_empty(int client)
{
    char line[LINE];

    if (say(client, "+OK\r\n") < 0)
        return;
    while (read_line(client, line) >= 0 && strcmp(line, "QUIT") != 0)
        if (say(client, strcmp(line, "STAT") == 0 ? "+OK 0 0\r\n" : "-ERR\r\n") < 0)
            return;
    say(client, "+OK\r\n");
}

/* Log in by XPOP, and let the backend go on. */
static void go_on(int client, const char *mailbox)
{
    char text[LINE + 16];
    int server = dial(SOCK_STREAM, backend_port);

    if (server < 0)
        return;
    snprintf(text, sizeof text, "%s\r\nfloor\r\n\r\n", mailbox);
    if (say(server, text) == 0)
        relay(client, server);      /* its answer is the first that the client gets */
    close(server);
}

static void serve(int client)
{
    char line[LINE], mailbox[LINE], password[LINE];
    ssize_t length;

    if (say(client, "+OK ready\r\n") < 0)
        return;
    length = read_line(client, line);
    if (length < (ssize_t)strlen("USER xx") || length > LINE - 8 || say(client, "+OK\r\n") < 0)
        return;
    /* As the benchmark's databases have it. */
    snprintf(mailbox, sizeof mailbox, "%s/%s", line + length - 2, line + strlen("USER "));
    if (read_line(client, password) < 0)
        return;
    int state = ask(mailbox);
    if (state == 0)
        play_empty(client);
    else if (state > 0)
        go_on(client, mailbox);
}

static void pass_on(int client)
{
    int server = dial(SOCK_STREAM, backend_port);

    if (server < 0)
        return;
    relay(client, server);
    close(server);
}

int main(int argc, char **argv)
{
    int numbers[5];

    for (int i = 0; i < 5; i++) {
        numbers[i] = argc == 6 ? number_of(argv[i + 1]) : -1;
        if (numbers[i] < 0) {
            fprintf(stderr, "usage: floor_proxy PORT CHECKS BACKEND USES SPARE\n");
            return 2;
        }
    }
    checks_port = numbers[1];
    backend_port = numbers[2];
    return prefork(numbers[0], numbers[4], numbers[3], checks_port ? serve : pass_on);
}
