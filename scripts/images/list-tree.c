/*
 * list-tree DIR: every entry below DIR, one line each, sorted: all that a file system keeps of it.
 *
 *   path type mode uid gid mtime.ns size rdev links first-of-its-links xattrs target-or-checksum
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct { dev_t dev; ino_t ino; char *path; } *inodes;
static size_t inode_count;

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void quoted(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = bytes[i];
        if (c <= ' ' || c >= 127 || c == '\\')
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

/* The first path, in order, that had this inode: tells which names are one file. */
static const char *first_name(const struct stat *st, const char *path)
{
    for (size_t i = 0; i < inode_count; i++)
        if (inodes[i].dev == st->st_dev && inodes[i].ino == st->st_ino)
            return inodes[i].path;
    inodes = realloc(inodes, (inode_count + 1) * sizeof *inodes);
    inodes[inode_count].dev = st->st_dev;
    inodes[inode_count].ino = st->st_ino;
    inodes[inode_count].path = strdup(path);
    return inodes[inode_count++].path;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void xattrs(const char *name)
{
    static char names[65536], value[65536];
    char *sorted[256];
    int count = 0;
    ssize_t length = llistxattr(name, names, sizeof names);
    for (char *n = names; length > 0 && n < names + length && count < 256; n += strlen(n) + 1)
        sorted[count++] = n;
    qsort(sorted, count, sizeof *sorted, by_text);
    printf(" [");
    for (int i = 0; i < count; i++) {
        if (strncmp(sorted[i], "trusted.overlay.", 16) == 0)
            continue;
        ssize_t size = lgetxattr(name, sorted[i], value, sizeof value);
        printf("%s=", sorted[i]);
        quoted(value, size > 0 ? size : 0);
        putchar(',');
    }
    putchar(']');
}

static void checksum(const char *name)
{
    static unsigned char buffer[65536];
    uint64_t hash = 14695981039346656037u;
    int fd = open(name, O_RDONLY | O_NOFOLLOW);
    ssize_t count;
    if (fd < 0) {
        printf(" unreadable:%s", strerror(errno));
        return;
    }
    while ((count = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < count; i++)
            hash = (hash ^ buffer[i]) * 1099511628211u;
    close(fd);
    printf(" %016llx", (unsigned long long)hash);
}

static void list(const char *path)
{
    /* Names are looked up in the working directory, so that a deep tree's paths may be longer than PATH_MAX. */
    struct dirent **entries;
    int count = scandir(".", &entries, NULL, by_name);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        struct stat st;
        char *full;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || lstat(name, &st) != 0)
            continue;
        if (asprintf(&full, "%s/%s", path, name) < 0)
            exit(1);
        int is_dir = S_ISDIR(st.st_mode);
        quoted(full, strlen(full));
        printf(" %o %o %u %u %lld.%09ld %lld %u:%u %lu ", st.st_mode & S_IFMT, st.st_mode & 07777, st.st_uid, st.st_gid,
               (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, is_dir ? 0LL : (long long)st.st_size, major(st.st_rdev),
               minor(st.st_rdev), is_dir ? 1UL : (unsigned long)st.st_nlink);
        if (!is_dir && st.st_nlink > 1) {
            const char *first = first_name(&st, full);
            quoted(first, strlen(first));
        } else {
            putchar('-');
        }
        xattrs(name);
        if (S_ISLNK(st.st_mode)) {
            static char target[65536];
            ssize_t length = readlink(name, target, sizeof target);
            putchar(' ');
            quoted(target, length > 0 ? length : 0);
        } else if (S_ISREG(st.st_mode)) {
            checksum(name);
        }
        putchar('\n');
        if (is_dir && chdir(name) == 0) {
            list(full);
            if (chdir("..") != 0)
                exit(1);
        }
        free(full);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) != 0) {
        fprintf(stderr, "usage: list-tree DIR\n");
        return 2;
    }
    list("");
    return ferror(stdout) || fflush(stdout) != 0;
}
