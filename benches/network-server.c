/* The guest's side of the network benchmark: static, for a guest of any image.
 *
 *   network-server PORT    serves each connection until its client ends it, in a process of its own
 *
 * A client sends commands of five bytes, a letter and a number (big endian):
 *   R n    sends n bytes; answers '.' when all are here
 *   S n    gets n bytes
 *   E n    sends n times one byte; each is answered by one
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char block[256 * 1024];

static int receive_all(int fd, void *to, size_t length) {
    for (char *at = to; length > 0;) {
        ssize_t got = read(fd, at, length);
        if (got <= 0) return -1;
        at += got;
        length -= (size_t)got;
    }
    return 0;
}

static int swallow(int fd, uint32_t count) {
    while (count > 0) {
        ssize_t got = read(fd, block, count < sizeof block ? count : sizeof block);
        if (got <= 0) return -1;
        count -= (uint32_t)got;
    }
    return write(fd, ".", 1) == 1 ? 0 : -1;
}

static int pour(int fd, uint32_t count) {
    while (count > 0) {
        ssize_t put = write(fd, block, count < sizeof block ? count : sizeof block);
        if (put <= 0) return -1;
        count -= (uint32_t)put;
    }
    return 0;
}

static int echo(int fd, uint32_t count) {
    char byte;
    for (; count > 0; count--)
        if (read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1) return -1;
    return 0;
}

static void serve(int fd) {
    unsigned char command[5];
    while (receive_all(fd, command, sizeof command) == 0) {
        uint32_t count;
        memcpy(&count, command + 1, sizeof count);
        count = ntohl(count);
        int (*does)(int, uint32_t) = command[0] == 'R' ? swallow : command[0] == 'S' ? pour : command[0] == 'E' ? echo : NULL;
        if (does == NULL || does(fd, count) != 0) return;
    }
}

int main(int count, char **words) {
    if (count != 2) return 2;
    signal(SIGCHLD, SIG_IGN);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (void *)&own, sizeof own) != 0 || listen(listener, 16) != 0) {
        perror("network-server");
        return 1;
    }
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (fork() == 0) {
            close(listener);
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}
