/* Runs in a VMM's place and tries to get out: prints one line "NAME denied" or "NAME ALLOWED why" for each attempt on
 * standard error. With an argument it does one thing: eat memory, fork without end, burn CPU. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *name, int was_allowed) {
    dprintf(2, "%s %s\n", name, was_allowed ? "ALLOWED" : "denied");
}

static int opens(const char *path, int flags) { return open(path, flags) >= 0; }

static int sees_other_processes(void) {
    DIR *proc = opendir("/proc");
    int others = 0;
    if (!proc) return 0;
    for (struct dirent *entry; (entry = readdir(proc));)
        if (atoi(entry->d_name) > 0 && atoi(entry->d_name) != getpid()) others++;
    closedir(proc);
    return others;
}

static int connects(const char *address, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "memory")) {
        for (;;) {
            char *block = malloc(1 << 20);
            if (!block) _exit(9);
            memset(block, 1, 1 << 20);
        }
    }
    if (argc > 1 && !strcmp(argv[1], "fork")) {
        for (;;)
            if (fork() == 0) { pause(); _exit(0); }
    }
    if (argc > 1 && !strcmp(argv[1], "cpu")) {
        struct timespec from, now;
        clock_gettime(CLOCK_MONOTONIC, &from);
        do clock_gettime(CLOCK_MONOTONIC, &now);
        while (now.tv_sec - from.tv_sec < 3);
        _exit(0);
    }
    if (argc > 1 && !strcmp(argv[1], "sleep")) { pause(); _exit(0); }
    /* Arguments: secret file of another VM, port of a listener on the host's loopback, pid of a host process. */
    const char *secret = argv[2];
    int port = atoi(argv[3]), pid = atoi(argv[4]);
    char path[64];
    tell("inherited-descriptor", fcntl(3, F_GETFD) >= 0);
    tell("read-other-vm", opens(secret, O_RDONLY));
    tell("read-etc-shadow", opens("/etc/shadow", O_RDONLY));
    tell("read-etc-passwd", opens("/etc/passwd", O_RDONLY));
    tell("write-library", opens("/usr/lib/ignite-hostile", O_CREAT | O_WRONLY));
    tell("write-root", opens("/ignite-hostile", O_CREAT | O_WRONLY));
    tell("see-processes", sees_other_processes());
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    tell("read-host-process", opens(path, O_RDONLY));
    tell("signal-host-process", kill(pid, 0) == 0);
    tell("ptrace-host-process", ptrace(PTRACE_ATTACH, pid, 0, 0) == 0);
    tell("ptrace-self", ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    tell("reach-host-network", connects("127.0.0.1", port));
    tell("raw-socket", socket(AF_PACKET, SOCK_RAW, 0) >= 0);
    tell("become-root", setuid(0) == 0 && getuid() == 0 && opens("/proc/1/mem", O_RDWR));
    tell("mount", mount("none", "/proc", "tmpfs", 0, 0) == 0);
    tell("unshare-user", unshare(CLONE_NEWUSER) == 0);
    tell("clone-user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) >= 0);
    tell("set-namespace", setns(0, 0) == 0 || errno != EPERM);
    tell("chroot", chroot("/") == 0);
    tell("make-device", mknod("/dev-mem", S_IFCHR | 0666, 0x101) == 0);
    tell("bpf", syscall(SYS_bpf, 0, 0, 0) >= 0 || errno != EPERM);
    tell("io-uring", syscall(SYS_io_uring_setup, 1, 0) >= 0 || errno != EPERM);
    execl("/usr/bin/su", "su", "-c", "true", NULL);
    execl("/bin/su", "su", "-c", "true", NULL);
    tell("run-setuid-program", 0);
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    tell("raise-limits", setrlimit(RLIMIT_CORE, &limit) == 0);
    dprintf(2, "done\n");
    return 0;
}
