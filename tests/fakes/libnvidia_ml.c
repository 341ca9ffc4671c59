/* A libnvidia-ml.so.1 for tests: what it says stands in the file $FAKE_NVML, read anew
 * at each call, so that a test can change it in mid-run. One statement a line:
 *
 *   fail FUNCTION NUMBER       the call ends with that NVML error
 *   card UUID                  a card, in NVML's order; a "slice" after it is of it
 *   slice UUID
 *   used UUID BYTES            memory in use on it
 *   free UUID BYTES            memory that nobody uses; 64 GiB if it does not say
 *   process UUID PID BYTES     PID may be "self"; BYTES may be "none"
 *
 * Each process must call nvmlInit for itself, as with the real library after a fork.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NO_PERMISSION 4
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define MOST 64
#define LONGEST 96

typedef unsigned long long bytes_t;
typedef struct { char uuid[LONGEST]; int parent; bytes_t used, free; } device_t;
typedef struct { int device; unsigned pid; bytes_t used; } process_t;
typedef struct {
    unsigned pid;
    bytes_t used;
    unsigned gpu_instance, compute_instance;
} info_t; /* of version 2 and 3 */

static pid_t started_in;
static device_t devices[MOST];
static process_t processes[MOST];
static int device_count, process_count;

static int find(const char *uuid) {
    for (int i = 0; i < device_count; i++)
        if (!strcmp(devices[i].uuid, uuid)) return i;
    return -1;
}

static int parent_now(void) {
    for (int i = device_count - 1; i >= 0; i--)
        if (devices[i].parent < 0) return i;
    return -1;
}

static void add(const char *uuid, int parent) {
    device_t *device = &devices[device_count++];
    strcpy(device->uuid, uuid);
    device->parent = parent;
    device->used = 0;
    device->free = 64ULL << 30;
}

/* Read the file; return the error that it plans for a function. */
static int plan(const char *function) {
    char line[256], what[LONGEST], a[LONGEST], b[LONGEST], c[LONGEST];
    int error = SUCCESS;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (!file) return 999;
    device_count = process_count = 0;
    while (fgets(line, sizeof line, file)) {
        int words = sscanf(line, "%95s %95s %95s %95s", what, a, b, c);
        if (words < 2) continue;
        if (!strcmp(what, "fail") && !strcmp(a, function)) error = atoi(b);
        if (!strcmp(what, "card")) add(a, -1);
        if (!strcmp(what, "slice")) add(a, parent_now());
        if (!strcmp(what, "used")) devices[find(a)].used = strtoull(b, 0, 10);
        if (!strcmp(what, "free")) devices[find(a)].free = strtoull(b, 0, 10);
        if (!strcmp(what, "process")) {
            process_t *process = &processes[process_count++];
            process->device = find(a);
            process->pid = strcmp(b, "self") ? (unsigned)atoi(b) : (unsigned)getpid();
            process->used = strcmp(c, "none") ? strtoull(c, 0, 10) : ~0ULL;
        }
    }
    fclose(file);
    return error;
}

static int begin(const char *function) {
    int error = plan(function);
    return started_in == getpid() ? error : UNINITIALIZED;
}

/* A handle is made of the process that got it, so that it dies with a fork. */
static void *handle_of(int device) {
    return (void *)(((size_t)getpid() << 8) | (size_t)(device + 1));
}

static int device_of(void *handle) {
    size_t value = (size_t)handle;
    int device = (int)(value & 0xff) - 1;
    return (pid_t)(value >> 8) == getpid() && device < device_count ? device : -1;
}

#define BEGIN                                   \
    int error = begin(__func__);                \
    if (error) return error;
#define DEVICE                                  \
    BEGIN                                       \
    int device = device_of(handle);             \
    if (device < 0) return INVALID_ARGUMENT;

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int error = plan(__func__);
    if (!error) started_in = getpid();
    const char *log = getenv("FAKE_NVML_LOG");
    if (log) {
        FILE *file = fopen(log, "a");
        fprintf(file, "init %d\n", (int)getpid());
        fclose(file);
    }
    return error;
}

int nvmlShutdown(void) {
    started_in = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int error) {
    (void)error;
    return "an error of the fake";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    BEGIN
    *count = 0;
    for (int i = 0; i < device_count; i++) *count += devices[i].parent < 0;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    BEGIN
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent < 0 && index-- == 0) {
            *handle = handle_of(i);
            return SUCCESS;
        }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    BEGIN
    int device = find(uuid);
    if (device < 0) return NOT_FOUND;
    *handle = handle_of(device);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    DEVICE
    strncpy(uuid, devices[device].uuid, length);
    return SUCCESS;
}

static int slices_of(int device) {
    int count = 0;
    for (int i = 0; i < device_count; i++) count += devices[i].parent == device;
    return count;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    DEVICE
    *current = *pending = slices_of(device) > 0;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    DEVICE
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **slice) {
    DEVICE
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent == device && index-- == 0) {
            *slice = handle_of(i);
            return SUCCESS;
        }
    return NOT_FOUND;
}

static int memory_of(void *handle, const char *function, bytes_t *used, bytes_t *free) {
    int error = begin(function);
    if (error) return error;
    int device = device_of(handle);
    if (device < 0) return INVALID_ARGUMENT;
    *used = devices[device].used;
    *free = devices[device].free;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *handle, bytes_t *memory) {
    bytes_t used = 0; /* total, free, used: with what the driver reserves */
    int error = memory_of(handle, __func__, &used, &memory[1]);
    memory[2] = used + 1000;
    return error;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, bytes_t *memory) {
    /* version, total, reserved, free, used */
    if ((unsigned)memory[0] != 0x02000028) return 25;
    return memory_of(handle, __func__, &memory[4], &memory[3]);
}

static int list(void *handle, const char *function, unsigned *count, info_t *rows) {
    int error = begin(function);
    if (error) return error;
    int device = device_of(handle);
    unsigned found = 0, room = *count;
    if (device < 0) return INVALID_ARGUMENT;
    if (slices_of(device)) return NO_PERMISSION;
    for (int i = 0; i < process_count; i++) {
        if (processes[i].device != device) continue;
        if (rows && found < room) {
            rows[found].pid = processes[i].pid;
            rows[found].used = processes[i].used;
        }
        found++;
    }
    *count = found;
    return found > (rows ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *n, info_t *rows) {
    return list(handle, __func__, n, rows);
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *n, info_t *rows) {
    return list(handle, __func__, n, rows);
}
