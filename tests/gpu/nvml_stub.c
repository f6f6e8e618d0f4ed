/* A stub of NVML: it shows the cards that a text file describes. No GPU and no driver is behind it.
 *
 * The file is named by NVML_STUB_STATE and read again at each call, so that whoever writes it changes the cards under a
 * program that is watching them. Each line is `DEVICE FIELD VALUE`. DEVICE is `system`, a card such as `0`, or a MIG
 * instance of it such as `0/1`. A VALUE of `!N` makes the call return NVML's error N. A field that is not there is not
 * supported (error 3). `nvml_stub.py` writes such files and has the names of the fields.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define LINE_SIZE 4096
#define MOST_PROCESSES 64

typedef struct device *device_t; /* opaque, as in NVML: (card + 1) * 256 + (instance + 1), or 0 for the card itself */

typedef struct {
    unsigned int pid;
    unsigned long long used_memory;
    unsigned int gpu_instance, compute_instance;
} process_t;

typedef struct {
    unsigned int multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mb;
} attributes_t;

typedef struct {
    unsigned long long total, free, used;
} memory_t;

static int started = 0;

/* The value of a field of a device. Returns NVML's status. */
static int text_of(const char *device, const char *field, char *value, size_t size) {
    char line[LINE_SIZE], prefix[128];
    int status = NOT_SUPPORTED;
    const char *path = getenv("NVML_STUB_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file == NULL)
        return DRIVER_NOT_LOADED;
    snprintf(prefix, sizeof prefix, "%s %s ", device, field);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, prefix, strlen(prefix)) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        const char *found = line + strlen(prefix);
        status = found[0] == '!' ? atoi(found + 1) : SUCCESS;
        snprintf(value, size, "%s", found);
    }
    fclose(file);
    return status;
}

static int number_of(const char *device, const char *field, unsigned long long *value) {
    char text[LINE_SIZE];
    int status = text_of(device, field, text, sizeof text);
    if (status == SUCCESS)
        *value = strtoull(text, NULL, 0);
    return status;
}

static device_t handle_of(unsigned int card, int instance) {
    return (device_t)(size_t)((card + 1) * 256 + (unsigned int)(instance + 1));
}

/* What the file calls the device behind a handle. */
static const char *name_of(device_t handle, char *name, size_t size) {
    unsigned int number = (unsigned int)(size_t)handle;
    if (number % 256 == 0)
        snprintf(name, size, "%u", number / 256 - 1);
    else
        snprintf(name, size, "%u/%u", number / 256 - 1, number % 256 - 1);
    return name;
}

static int device_text(device_t handle, const char *field, char *value, unsigned int size) {
    char name[32], text[LINE_SIZE];
    if (!started)
        return UNINITIALIZED;
    int status = text_of(name_of(handle, name, sizeof name), field, text, sizeof text);
    if (status == SUCCESS && strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    if (status == SUCCESS)
        strcpy(value, text);
    return status;
}

static int device_number(device_t handle, const char *field, unsigned long long *value) {
    char name[32];
    return started ? number_of(name_of(handle, name, sizeof name), field, value) : UNINITIALIZED;
}

static int device_uint(device_t handle, const char *field, unsigned int *value) {
    unsigned long long number;
    int status = device_number(handle, field, &number);
    if (status == SUCCESS)
        *value = (unsigned int)number;
    return status;
}

/* The library itself. */

int nvmlInitWithFlags(unsigned int flags) {
    unsigned long long count;
    char refused[32];
    int status = text_of("system", "init", refused, sizeof refused);
    (void)flags;
    if (status == NOT_SUPPORTED) /* no refusal is written down */
        status = number_of("system", "count", &count);
    if (status == SUCCESS)
        started++;
    return status;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!started)
        return UNINITIALIZED;
    started--;
    return SUCCESS;
}

const char *nvmlErrorString(int status) {
    static char text[32];
    snprintf(text, sizeof text, "NVML error %d", status);
    return text;
}

static int system_text(const char *field, char *value, unsigned int size) {
    return started ? text_of("system", field, value, size) : UNINITIALIZED;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int size) { return system_text("driver_version", version, size); }

int nvmlSystemGetNVMLVersion(char *version, unsigned int size) { return system_text("nvml_version", version, size); }

int nvmlSystemGetCudaDriverVersion(int *version) {
    unsigned long long number;
    int status = started ? number_of("system", "cuda_version", &number) : UNINITIALIZED;
    if (status == SUCCESS)
        *version = (int)number;
    return status;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* Which devices there are. */

int nvmlDeviceGetCount_v2(unsigned int *count) {
    unsigned long long number;
    int status = started ? number_of("system", "count", &number) : UNINITIALIZED;
    if (status == SUCCESS)
        *count = (unsigned int)number;
    return status;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device_t *device) {
    unsigned int count;
    unsigned long long refused;
    int status = nvmlDeviceGetCount_v2(&count);
    if (status != SUCCESS)
        return status;
    if (index >= count)
        return INVALID_ARGUMENT;
    status = device_number(handle_of(index, -1), "handle", &refused);
    if (status != SUCCESS && status != NOT_SUPPORTED)
        return status;
    *device = handle_of(index, -1);
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device_t card, unsigned int index, device_t *instance) {
    char uuid[128];
    device_t handle = (device_t)((size_t)card + index + 1);
    int status = device_text(handle, "uuid", uuid, sizeof uuid);
    if (status == SUCCESS)
        *instance = handle;
    return status == NOT_SUPPORTED ? NOT_FOUND : status;
}

int nvmlDeviceGetMaxMigDeviceCount(device_t device, unsigned int *count) {
    return device_uint(device, "max_mig_devices", count);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *device) {
    unsigned int count, instances;
    char found[128];
    int status = nvmlDeviceGetCount_v2(&count);
    for (unsigned int card = 0; status == SUCCESS && card < count; card++) {
        if (nvmlDeviceGetMaxMigDeviceCount(handle_of(card, -1), &instances) != SUCCESS)
            instances = 0;
        for (int instance = -1; instance < (int)instances; instance++) {
            device_t handle = handle_of(card, instance);
            if (device_text(handle, "uuid", found, sizeof found) == SUCCESS && strcmp(found, uuid) == 0) {
                *device = handle;
                return SUCCESS;
            }
        }
    }
    return status == SUCCESS ? NOT_FOUND : status;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t instance, device_t *card) {
    if ((size_t)instance % 256 == 0)
        return INVALID_ARGUMENT;
    *card = (device_t)((size_t)instance / 256 * 256);
    return SUCCESS;
}

int nvmlDeviceIsMigDeviceHandle(device_t device, unsigned int *is_mig) {
    *is_mig = (size_t)device % 256 != 0;
    return SUCCESS;
}

int nvmlDeviceGetIndex(device_t device, unsigned int *index) {
    *index = (unsigned int)((size_t)device / 256 - 1);
    return SUCCESS;
}

int nvmlDeviceGetName(device_t device, char *name, unsigned int size) {
    return device_text(device, "name", name, size);
}

int nvmlDeviceGetUUID(device_t device, char *uuid, unsigned int size) {
    return device_text(device, "uuid", uuid, size);
}

int nvmlDeviceGetAttributes_v2(device_t device, attributes_t *attributes) {
    memset(attributes, 0, sizeof *attributes);
    int status = device_uint(device, "multiprocessors", &attributes->multiprocessors);
    if (status == SUCCESS)
        status = device_uint(device, "gpu_slices", &attributes->gpu_slices);
    if (status == SUCCESS)
        status = device_uint(device, "compute_slices", &attributes->compute_slices);
    return status == SUCCESS ? device_number(device, "memory_mb", &attributes->memory_mb) : status;
}

int nvmlDeviceGetGpuInstanceId(device_t device, unsigned int *id) { return device_uint(device, "gpu_instance", id); }

int nvmlDeviceGetComputeInstanceId(device_t device, unsigned int *id) {
    return device_uint(device, "compute_instance", id);
}

int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor) {
    unsigned int both; /* 90 for 9.0 */
    int status = device_uint(device, "compute_capability", &both);
    if (status == SUCCESS) {
        *major = (int)both / 10;
        *minor = (int)both % 10;
    }
    return status;
}

/* What they are doing. */

int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned int *count, process_t *processes) {
    char text[LINE_SIZE];
    unsigned int found = 0, room = *count;
    int status = device_text(device, "processes", text, sizeof text);
    if (status != SUCCESS)
        return status;
    for (char *word = strtok(text, " "); word && found < MOST_PROCESSES; word = strtok(NULL, " "), found++)
        if (processes && found < room)
            processes[found] = (process_t){(unsigned int)strtoul(word, NULL, 10), 1ULL << 30, ~0u, ~0u};
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(device_t device, unsigned long long *reasons) {
    return device_number(device, "clocks_event_reasons", reasons);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device_t device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

int nvmlDeviceGetTemperature(device_t device, int sensor, unsigned int *celsius) {
    return sensor == 0 ? device_uint(device, "temperature", celsius) : INVALID_ARGUMENT;
}

/* Milliwatts of a card with a `draw`: what it would take, less what its power limit keeps it from. */
static int drawn(device_t device, unsigned int *milliwatts) {
    unsigned int limit;
    int status = device_uint(device, "draw", milliwatts);
    if (status == SUCCESS && device_uint(device, "enforced_power_limit", &limit) == SUCCESS && limit < *milliwatts)
        *milliwatts = limit;
    return status;
}

int nvmlDeviceGetPowerUsage(device_t device, unsigned int *milliwatts) {
    int status = device_uint(device, "power_usage", milliwatts);
    return status == SUCCESS && drawn(device, milliwatts) == SUCCESS ? SUCCESS : status;
}

/* With a `draw` it grows with time, at one rate as long as the power limit stays. */
int nvmlDeviceGetTotalEnergyConsumption(device_t device, unsigned long long *millijoules) {
    unsigned int milliwatts;
    struct timespec now;
    int status = device_number(device, "total_energy", millijoules);
    if (status == SUCCESS && drawn(device, &milliwatts) == SUCCESS) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        *millijoules = (unsigned long long)((now.tv_sec + now.tv_nsec / 1e9) * milliwatts);
    }
    return status;
}

int nvmlDeviceGetEnforcedPowerLimit(device_t device, unsigned int *milliwatts) {
    return device_uint(device, "enforced_power_limit", milliwatts);
}

int nvmlDeviceGetPowerManagementLimit(device_t device, unsigned int *milliwatts) {
    return device_uint(device, "power_limit", milliwatts);
}

int nvmlDeviceGetPowerManagementDefaultLimit(device_t device, unsigned int *milliwatts) {
    return device_uint(device, "default_power_limit", milliwatts);
}

int nvmlDeviceGetPowerManagementLimitConstraints(device_t device, unsigned int *least, unsigned int *most) {
    int status = device_uint(device, "least_power_limit", least);
    return status == SUCCESS ? device_uint(device, "most_power_limit", most) : status;
}

/* Writes `field` of a device anew, in a file beside the state's that takes its place. */
static int write_number(device_t device, const char *field, unsigned int value) {
    char name[32], line[LINE_SIZE], prefix[128], beside[LINE_SIZE];
    const char *path = getenv("NVML_STUB_STATE");
    FILE *old = path ? fopen(path, "r") : NULL;
    if (old == NULL)
        return DRIVER_NOT_LOADED;
    snprintf(beside, sizeof beside, "%s.%d", path, (int)getpid());
    FILE *new = fopen(beside, "w");
    snprintf(prefix, sizeof prefix, "%s %s ", name_of(device, name, sizeof name), field);
    while (new && fgets(line, sizeof line, old))
        if (strncmp(line, prefix, strlen(prefix)) != 0)
            fputs(line, new);
    fclose(old);
    if (new == NULL)
        return DRIVER_NOT_LOADED;
    fprintf(new, "%s%u\n", prefix, value);
    fclose(new);
    return rename(beside, path) == 0 ? SUCCESS : DRIVER_NOT_LOADED;
}

/* `set_power_limit` is the highest limit that the card enforces, whatever it is set to. */
int nvmlDeviceSetPowerManagementLimit(device_t device, unsigned int milliwatts) {
    unsigned int least, most, enforced;
    int status = device_uint(device, "set_power_limit", &enforced);
    if (status == SUCCESS)
        status = nvmlDeviceGetPowerManagementLimitConstraints(device, &least, &most);
    if (status != SUCCESS)
        return status;
    if (milliwatts < least || milliwatts > most)
        return INVALID_ARGUMENT;
    status = write_number(device, "power_limit", milliwatts);
    return status == SUCCESS
               ? write_number(device, "enforced_power_limit", milliwatts < enforced ? milliwatts : enforced)
               : status;
}

/* `prefix` and the clock's type (0 graphics, 1 SM, 2 memory) make the field, such as `max_sm_clock`. */
static int clock_of(device_t device, const char *prefix, int type, unsigned int *megahertz) {
    char field[64];
    snprintf(field, sizeof field, "%s%s_clock", prefix, type == 2 ? "memory" : "sm");
    return type >= 0 && type <= 2 ? device_uint(device, field, megahertz) : INVALID_ARGUMENT;
}

int nvmlDeviceGetClockInfo(device_t device, int type, unsigned int *megahertz) {
    return clock_of(device, "", type, megahertz);
}

int nvmlDeviceGetMaxClockInfo(device_t device, int type, unsigned int *megahertz) {
    return clock_of(device, "max_", type, megahertz);
}

int nvmlDeviceGetApplicationsClock(device_t device, int type, unsigned int *megahertz) {
    return clock_of(device, "application_", type, megahertz);
}

int nvmlDeviceGetDefaultApplicationsClock(device_t device, int type, unsigned int *megahertz) {
    return clock_of(device, "default_application_", type, megahertz);
}

/* How they are set. */

static int mode_of(device_t device, const char *field, unsigned int *current, unsigned int *pending) {
    int status = device_uint(device, field, current);
    *pending = *current;
    return status;
}

int nvmlDeviceGetPersistenceMode(device_t device, unsigned int *mode) {
    return device_uint(device, "persistence_mode", mode);
}

int nvmlDeviceGetEccMode(device_t device, unsigned int *current, unsigned int *pending) {
    return mode_of(device, "ecc_mode", current, pending);
}

int nvmlDeviceGetMigMode(device_t device, unsigned int *current, unsigned int *pending) {
    return mode_of(device, "mig_mode", current, pending);
}

int nvmlDeviceGetMemoryInfo(device_t device, memory_t *memory) {
    int status = device_number(device, "memory_total", &memory->total);
    if (status == SUCCESS)
        status = device_number(device, "memory_used", &memory->used);
    if (status == SUCCESS)
        memory->free = memory->total - memory->used;
    return status;
}
