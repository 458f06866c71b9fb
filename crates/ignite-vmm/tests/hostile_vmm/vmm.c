/* A VMM that has been taken over: whatever it is asked, it answers as its name says.
 *
 * It is started as QEMU ("-chardev socket,id=qmp,fd=N") or as Firecracker ("--api-sock PATH"). A name that begins with "late-"
 * lets the machine start and turns hostile afterwards. hostile_vmm.rs builds it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ENOUGH (32 << 20) /* bytes of what would go on for ever */

static const char *mode;
static int is_qemu, channel;

static int is(const char *name) { return !strcmp(mode, name); }

static int say(const char *text, size_t length) {
    while (length) {
        ssize_t count = write(channel, text, length);
        if (count <= 0) return 0;
        text += count;
        length -= count;
    }
    return 1;
}

static void say_often(const char *text, size_t length) {
    for (size_t sent = 0; sent < ENOUGH && say(text, length); sent += length) { }
}

static char block[65536];

static void filled(char with, size_t length) { memset(block, with, length); say(block, length); }

static void hear_lines(int count) {
    char heard;
    while (count && read(channel, &heard, 1) == 1) count -= heard == '\n';
}

static void be_hostile(void) {
    const char *head = is_qemu ? "" : "HTTP/1.1 400 \r\nContent-Length: 60000\r\n\r\n";
    if (is("closes")) return;
    if (is("dies")) exit(7);
    if (is("half-closed")) { shutdown(channel, SHUT_WR); pause(); }
    if (is("garbage")) {
        unsigned long number = 1;
        for (size_t i = 0; i < sizeof block; i++) { number = number * 6364136223846793005ul + 1; block[i] = number >> 56; }
        for (int i = 0; i < 16; i++) say(block, sizeof block);
    }
    if (is("zeros")) { memset(block, 0, sizeof block); say_often(block, sizeof block); }
    if (is("endless")) {
        /* A line, or a head of an answer, without an end. */
        if (!is_qemu) say("HTTP/1.1 200 \r\nX: ", 18);
        memset(block, 'x', sizeof block);
        say_often(block, sizeof block);
    }
    if (is("endless-answer")) {
        if (!is_qemu) say("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", 45);
        int length = snprintf(block, sizeof block, is_qemu ? "{\"return\":{\"a\":\"%0*d\"},\"id\":7}\n" : "3e8\r\n%0*d\r\n", 1000, 7);
        say_often(block, length);
    }
    if (is("nested")) { say(head, strlen(head)); filled('[', 59999); say("\n", 1); }
    if (is("many-headers")) {
        say("HTTP/1.1 200 \r\n", 15);
        for (int i = 0; i < 100000; i++) {
            int length = snprintf(block, sizeof block, "a%d: b\r\n", i);
            if (!say(block, length)) break;
        }
    }
    if (is("floods")) {
        const char *text = is_qemu ? "{\"event\":\"GUEST_PANICKED\",\"data\":{}}\n" : "HTTP/1.1 100 Continue\r\n\r\n";
        int length = 0;
        while (length + strlen(text) < sizeof block) length += sprintf(block + length, "%s", text);
        say_often(block, length);
    }
    if (is("shouts")) {
        const char *text = is_qemu ? "{\"error\":{\"desc\":\"\\u001b[2Jno\\n" : "HTTP/1.1 400 \r\nContent-Length: 60000\r\n\r\n{\"fault_message\":\"\\u001b[2Jno\\n";
        char tail[64];
        /* The command that is waited for: two are sent at the start, one afterwards. */
        for (int id = 1; id <= (is_qemu ? 3 : 1); id++) {
            int length = is_qemu ? snprintf(tail, sizeof tail, "\"},\"id\":%d}\n", id) : snprintf(tail, sizeof tail, "\"}");
            say(text, strlen(text));
            filled('!', 60000 - (is_qemu ? 100 : strlen(text) - 40) - length);
            say(tail, length);
        }
        pause();
    }
    if (is("talks")) {
        memset(block, 'x', sizeof block);
        block[100] = 27;
        block[200] = '\n';
        for (int sent = 0; sent < ENOUGH; sent += write(2, block, sizeof block)) { }
        exit(1);
    }
}

int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    int is_late = !strncmp(name, "late-", 5);
    mode = is_late ? name + 5 : name;
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--version")) { puts("Firecracker v1.12.1"); return 0; }
        if (sscanf(argv[i], "socket,id=qmp,fd=%d", &channel) == 1) is_qemu = 1;
        if (!strcmp(argv[i], "--api-sock")) strncpy(address.sun_path, argv[i + 1], sizeof address.sun_path - 1);
    }
    if (is_qemu) {
        hear_lines(2);
        if (is_late) {
            const char *good = "{\"return\":{},\"id\":1}\n{\"return\":{},\"id\":2}\n";
            say(good, strlen(good));
            hear_lines(1);
        }
        be_hostile();
        close(channel);
        pause();
    }
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) { perror("listen"); return 2; }
    for (int asked = 0; (channel = accept(listener, NULL, NULL)) >= 0; close(channel)) {
        char heard[4096];
        if (read(channel, heard, sizeof heard) <= 0) continue; /* somebody looks whether it is there */
        if (is_late && !asked++) {
            const char *good = "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}";
            say(good, strlen(good));
            continue;
        }
        be_hostile();
    }
    return 3;
}
