/* Steps the wall clock of every Python process of a house: loaded into each by LD_PRELOAD, it adds what the file
   FAULT_CLOCK holds (nanoseconds, a signed 64-bit number) to CLOCK_REALTIME, as far as the interpreter asks for it.

   Ray's own threads wait until a time of that clock by the kernel's, which cannot be stepped here: they see the true
   time, and so does whatever else is not the interpreter. Sleeps and time-outs of Python go by the monotonic clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL

static int64_t nothing;
static volatile int64_t *by_ns = &nothing;
static struct { uintptr_t from, to; } python[4];
static int pythons;

static int look(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size, (void)unused;
    if (*object->dlpi_name && !strstr(object->dlpi_name, "libpython")) return 0;
    for (int i = 0; i < object->dlpi_phnum && pythons < 4; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        python[pythons].from = object->dlpi_addr + part->p_vaddr;
        python[pythons++].to = object->dlpi_addr + part->p_vaddr + part->p_memsz;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page == MAP_FAILED) return;
    dl_iterate_phdr(look, NULL);
    by_ns = page;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, time);
    if (failed || clock != CLOCK_REALTIME || !*by_ns) return failed;
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    for (int i = 0; i < pythons; i++)
        if (python[i].from <= caller && caller < python[i].to) {
            int64_t by = *by_ns, ns = time->tv_nsec + by % SECOND_NS, carry = (ns >= SECOND_NS) - (ns < 0);
            time->tv_sec += by / SECOND_NS + carry;
            time->tv_nsec = ns - carry * SECOND_NS;
            break;
        }
    return 0;
}
