/* The smallest POP3 server that sends big messages: what the kernel needs for the octets alone.

       floor_direct PORT SPOOL SPARE

   A process for each connection.  It believes every name and password, takes the files of the user's mailbox as they
   come, with the size in their names, and sends them by sendfile(2): it knows of them that no line begins with
   a dot beyond the first KNOWN octets.  No proxy, no mail check, no UIDL, nothing is moved or deleted. */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "prefork.h"

#define KNOWN 1024            /* octets in which the line with a dot is */
#define MAX_MESSAGES 64
#define FOLDER 256

struct message {
    char path[FOLDER + NAME_MAX + 2];
    off_t size;
};

static const char *spool;
static struct message messages[MAX_MESSAGES];
static int count;

/* Add the messages of one folder of a mailbox, as many as there is room for. */
static void list(const char *user, const char *part)
{
    char folder[FOLDER];
    int length = snprintf(folder, sizeof folder, "%s/%s/%s/%s", spool, user + strlen(user) - 2, user, part);
    DIR *dir = length < (int)sizeof folder ? opendir(folder) : NULL;
    struct dirent *entry;

    if (dir == NULL)
        return;
    while (count < MAX_MESSAGES && (entry = readdir(dir)) != NULL) {
        const char *size = strrchr(entry->d_name, '_');

        if (size == NULL)
            continue;
        snprintf(messages[count].path, sizeof messages[count].path, "%s/%s", folder, entry->d_name);
        messages[count++].size = strtol(size + 1, NULL, 10);
    }
    closedir(dir);
}

/* Send the first octets of a message behind `text`, with the dots doubled; returns 0 or -1. */
static int send_known(int client, int file, char *text, size_t length)
{
    char known[KNOWN];
    ssize_t got = pread(file, known, sizeof known, 0);

    for (ssize_t i = 0; i < got; i++) {
        if (known[i] == '.' && i > 0 && known[i - 1] == '\n')
            text[length++] = '.';
        text[length++] = known[i];
    }
    return got < 0 ? -1 : send_all(client, text, length, MSG_MORE);
}

/* Answer RETR; returns 0, or -1 when there is no such message or the client does not want it. */
static int send_message(int client, const struct message *message)
{
    char text[2 * KNOWN + 16] = "+OK\r\n";
    int file = open(message->path, O_RDONLY | O_CLOEXEC);
    off_t at = message->size < KNOWN ? message->size : KNOWN;

    if (file < 0)
        return -1;
    int result = send_known(client, file, text, strlen(text));
    while (result == 0 && at < message->size)
        if (sendfile(client, file, &at, (size_t)(message->size - at)) <= 0)
            result = -1;
    close(file);
    return result == 0 ? say(client, ".\r\n") : -1;
}

static int answer(int client, const char *command)
{
    char text[LINE];
    long long sum = 0;

    if (strncmp(command, "RETR ", 5) == 0) {
        int number = number_of(command + 5);

        return number > 0 && number <= count ? send_message(client, &messages[number - 1]) : -1;
    }
    if (strcmp(command, "STAT") != 0)
        return say(client, "-ERR\r\n");
    for (int i = 0; i < count; i++)
        sum += messages[i].size;
    snprintf(text, sizeof text, "+OK %d %lld\r\n", count, sum);
    return say(client, text);
}

static void serve(int client)
{
    char user[LINE], line[LINE];

    if (say(client, "+OK ready\r\n") < 0 || read_line(client, user) < (ssize_t)strlen("USER xx") ||
        say(client, "+OK\r\n") < 0 || read_line(client, line) < 0)
        return;
    list(user + strlen("USER "), "new");
    list(user + strlen("USER "), "cur");
    if (say(client, "+OK\r\n") < 0)
        return;
    while (read_line(client, line) >= 0 && strcmp(line, "QUIT") != 0)
        if (answer(client, line) < 0)
            return;
    say(client, "+OK\r\n");
}

int main(int argc, char **argv)
{
    int port = argc == 4 ? number_of(argv[1]) : -1, spare = argc == 4 ? number_of(argv[3]) : -1;

    if (port < 0 || spare < 0) {
        fprintf(stderr, "usage: floor_direct PORT SPOOL SPARE\n");
        return 2;
    }
    spool = argv[2];
    return prefork(port, spare, 1, serve);
}
