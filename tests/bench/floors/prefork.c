/* A pre-forking server, and lines.  A child that gets a connection takes a token too, and gives it back; where none
   is left it rings, and the master forks another child.  With one use each there are no tokens.  Children end
   with their master. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "prefork.h"

#define MAX_CHILDREN 4096
#define BACKLOG 1024
#define WAIT 10       /* seconds for an answer of a daemon */
#define STUCK 60      /* seconds for a client to take what is sent */

static struct sockaddr_in address_of(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int listen_on(int port)
{
    struct sockaddr_in address = address_of(port);
    struct timeval stuck = {.tv_sec = STUCK};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* What it accepts has these two as well. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stuck, sizeof stuck);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return fd;
}

int dial(int type, int port)
{
    struct sockaddr_in address = address_of(port);
    struct timeval wait = {.tv_sec = WAIT};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void work(int listener, int tokens, int bell, int uses, void (*serve)(int))
{
    uint64_t token = 1;

    for (int use = 0; use < uses; use++) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (client < 0) {
            if (errno != ECONNABORTED && errno != EINTR)
                return;
            use--;
            continue;
        }
        if ((uses == 1 || read(tokens, &token, sizeof token) < 0) && write(bell, "!", 1) < 0)
            return;
        serve(client);
        close(client);
        if (use < uses - 1 && write(tokens, &token, sizeof token) < 0)
            return;
    }
}

int prefork(int port, int spare, int uses, void (*serve)(int client))
{
    pid_t master = getpid();
    int listener = listen_on(port), pipefd[2], alive = 0;
    int tokens = eventfd(uses > 1 ? (unsigned)spare / 2 : 0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    ssize_t wanted = spare;
    char rings[LINE];

    if (listener < 0 || tokens < 0 || pipe(pipefd) < 0) {
        perror("prefork");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        for (; wanted > 0 && alive < MAX_CHILDREN; wanted--, alive++) {
            pid_t pid = fork();

            if (pid < 0)
                break;
            if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() == master)
                    work(listener, tokens, pipefd[1], uses, serve);
                _exit(0);
            }
        }
        ssize_t count = read(pipefd[0], rings, sizeof rings);
        wanted += count > 0 ? count : 0;
        while (alive > 0 && waitpid(-1, NULL, WNOHANG) > 0)
            alive--;
    }
}

ssize_t read_line(int fd, char *line)
{
    size_t length = 0;

    while (length < LINE) {
        ssize_t count = recv(fd, line + length, LINE - length, 0);

        if (count <= 0)
            return -1;
        length += (size_t)count;
        if (line[length - 1] == '\n') {
            length -= length > 1 && line[length - 2] == '\r' ? 2 : 1;
            line[length] = '\0';
            return (ssize_t)length;
        }
    }
    return -1;
}

int send_all(int fd, const void *data, size_t length, int flags)
{
    const char *from = data;

    while (length > 0) {
        ssize_t count = send(fd, from, length, flags | MSG_NOSIGNAL);

        if (count <= 0)
            return -1;
        from += count;
        length -= (size_t)count;
    }
    return 0;
}

int say(int fd, const char *text)
{
    return send_all(fd, text, strlen(text), 0);
}

int number_of(const char *word)
{
    char *end;
    long number = strtol(word, &end, 10);

    return *word && !*end && number >= 0 && number <= 65535 ? (int)number : -1;
}
