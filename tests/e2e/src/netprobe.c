/* Asks and answers over TCP and UDP; static, so that it runs on hosts, in namespaces and in guests of any image.
 *
 *   netprobe serve PORT WORD           answers each connection and datagram with "WORD saw ADDRESS"
 *   netprobe ask tcp|udp ADDRESS PORT  prints the answer; fails when there is none within 20 s
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ASKED_FOR_SECONDS = 20, PAUSE_MICROSECONDS = 100000 };

static int fail(const char *what) {
    fprintf(stderr, "netprobe: %s: %s\n", what, strerror(errno));
    return 1;
}

static int answer(char *text, size_t size, const char *word, const struct sockaddr_in6 *peer) {
    char address[INET6_ADDRSTRLEN] = "?";
    inet_ntop(AF_INET6, &peer->sin6_addr, address, sizeof address);
    const char *bare = strncmp(address, "::ffff:", 7) == 0 ? address + 7 : address;
    return snprintf(text, size, "%s saw %s\n", word, bare);
}

static int serve(int port, const char *word) {
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int yes = 1, no = 0;
    int tcp = socket(AF_INET6, SOCK_STREAM, 0), udp = socket(AF_INET6, SOCK_DGRAM, 0);
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(tcp, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    setsockopt(udp, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(tcp, (void *)&own, sizeof own) || listen(tcp, 64) || bind(udp, (void *)&own, sizeof own)) return fail("listen");
    printf("serving\n");
    fflush(stdout);
    for (;;) {
        struct pollfd both[2] = {{.fd = tcp, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
        char text[256], asked[64];
        struct sockaddr_in6 peer;
        socklen_t size = sizeof peer;
        if (poll(both, 2, -1) < 0) return fail("wait");
        if (both[0].revents) {
            int client = accept(tcp, (void *)&peer, &size);
            if (client >= 0) {
                struct timeval some = {.tv_sec = 5};
                int length = answer(text, sizeof text, word, &peer);
                setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &some, sizeof some);
                /* Asked first: passt of 2023 loses what a server says with its end when it was asked nothing. */
                if (recv(client, asked, sizeof asked, 0) < 0 || write(client, text, length) < 0) fail("answer");
                close(client);
            }
        }
        if (both[1].revents && recvfrom(udp, asked, sizeof asked, 0, (void *)&peer, &size) >= 0)
            sendto(udp, text, answer(text, sizeof text, word, &peer), 0, (void *)&peer, size);
    }
}

static int ask(int kind, const char *address, int port) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr *peer = (void *)&four;
    socklen_t size = sizeof four;
    if (!inet_pton(AF_INET, address, &four.sin_addr)) {
        peer = (void *)&six;
        size = sizeof six;
        if (!inet_pton(AF_INET6, address, &six.sin6_addr)) return fail("address");
    }
    /* Whoever forwards the port may accept, and then hang up, before the server listens: that is asked again too. */
    for (time_t until = time(NULL) + ASKED_FOR_SECONDS; time(NULL) < until; usleep(PAUSE_MICROSECONDS)) {
        char text[256];
        struct timeval second = {.tv_sec = 1};
        int asking = socket(peer->sa_family, kind, 0);
        setsockopt(asking, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
        setsockopt(asking, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
        if (connect(asking, peer, size) == 0 && send(asking, "?", 1, 0) == 1) {
            ssize_t length = recv(asking, text, sizeof text, kind == SOCK_STREAM ? MSG_WAITALL : 0);
            if (length > 0) return fwrite(text, length, 1, stdout) == 1 ? 0 : 1;
        }
        close(asking);
    }
    return fail("no answer");
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    if (count == 4 && !strcmp(words[1], "serve")) return serve(atoi(words[2]), words[3]);
    if (count == 5 && !strcmp(words[1], "ask"))
        return ask(strcmp(words[2], "udp") ? SOCK_STREAM : SOCK_DGRAM, words[3], atoi(words[4]));
    fprintf(stderr, "usage: netprobe serve PORT WORD | ask tcp|udp ADDRESS PORT\n");
    return 2;
}
