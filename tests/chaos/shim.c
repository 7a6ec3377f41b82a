/* Preloaded into a writer: writes down what it does to the files of one folder, in the order in which it does it.
 *
 * From that record a power cut is made, at any place in it: what was written before the last fsync of a file began is on the
 * disk, and of what came after it any 512-byte block may be, or may not. A write is recorded before it is done, an fsync
 * before it and after it, so that a process that is killed in between claims no more than is true.
 *
 * TASKCTX_CHAOS_FOLDER    the folder
 * TASKCTX_CHAOS_RECORD    the file that the record goes to; without it nothing is recorded
 * TASKCTX_CHAOS_NO_FSYNC  set: fsync is not recorded, as if it kept nothing
 * TASKCTX_CHAOS_NO_LOCK   set: locks of these files lock nothing
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct head {
    char what;
    char unused[3];
    uint32_t name_length;
    int64_t offset;
    int64_t length;
};

/* The name of a descriptor's file in the folder, empty for the folder itself, or NULL if it is somewhere else. */
static const char *name_of(int fd, char *path) {
    const char *folder = getenv("TASKCTX_CHAOS_FOLDER");
    char link[64];
    if (!folder) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    size_t prefix = strlen(folder);
    if (length < (ssize_t)prefix || strncmp(path, folder, prefix)) return NULL;
    path[length] = 0;
    if (!path[prefix]) return path + prefix;
    return path[prefix] == '/' ? path + prefix + 1 : NULL;
}

static void record(char what, const char *name, int64_t offset, const void *data, int64_t length) {
    static int record_fd = -1;
    const char *path = getenv("TASKCTX_CHAOS_RECORD");
    if (!path) return;
    if (record_fd < 0) record_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct head head = {what, {0}, (uint32_t)strlen(name), offset, length};
    struct iovec parts[3] = {
        {&head, sizeof head}, {(void *)name, head.name_length}, {(void *)data, data ? (size_t)length : 0}};
    /* One call, so that processes do not write into each other's records. */
    if (record_fd < 0 || REAL(writev)(record_fd, parts, 3) < 0) abort();
}

static void record_write(int fd, const void *data, int64_t length, int64_t offset) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (name) record('W', name, offset, data, length);
}

/* Do an fsync: its beginning is recorded as B, its end as S with the same number. */
static int synced(int fd, int (*real)(int)) {
    static uint32_t count = 0;
    char path[PATH_MAX];
    const char *name = getenv("TASKCTX_CHAOS_NO_FSYNC") ? NULL : name_of(fd, path);
    int64_t number = ((int64_t)getpid() << 32) | __sync_add_and_fetch(&count, 1);
    if (name) record('B', name, number, NULL, 0);
    int result = real(fd);
    if (name && result == 0) record('S', name, number, NULL, 0);
    return result;
}

static void record_truncate(int fd, int64_t length) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (name) record('T', name, length, NULL, 0);
}

ssize_t write(int fd, const void *data, size_t length) {
    record_write(fd, data, length, lseek(fd, 0, SEEK_CUR));
    return REAL(write)(fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    record_write(fd, data, length, offset);
    return REAL(pwrite)(fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    record_write(fd, data, length, offset);
    return REAL(pwrite64)(fd, data, length, offset);
}

int ftruncate(int fd, off_t length) {
    record_truncate(fd, length);
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    record_truncate(fd, length);
    return REAL(ftruncate64)(fd, length);
}

int fsync(int fd) {
    return synced(fd, REAL(fsync));
}

int fdatasync(int fd) {
    return synced(fd, REAL(fdatasync));
}

int unlink(const char *path) {
    const char *folder = getenv("TASKCTX_CHAOS_FOLDER");
    size_t prefix = folder ? strlen(folder) : 0;
    if (folder && !strncmp(path, folder, prefix) && path[prefix] == '/') record('U', path + prefix + 1, 0, NULL, 0);
    return REAL(unlink)(path);
}

static int control(int fd, int command, void *argument, int (*real)(int, int, ...)) {
    char path[PATH_MAX];
    int locks = command == F_SETLK || command == F_SETLKW;
    if (locks && getenv("TASKCTX_CHAOS_NO_LOCK") && name_of(fd, path)) return 0;
    return real(fd, command, argument);
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return control(fd, command, argument, REAL(fcntl));
}

int fcntl64(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return control(fd, command, argument, REAL(fcntl64));
}
