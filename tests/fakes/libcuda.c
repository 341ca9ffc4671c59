/* A libcuda.so.1 for tests: CUDA's cards are the UUIDs in $FAKE_CUDA, in CUDA's order,
 * without prefix, commas between them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuDeviceGet(int *device, int ordinal) {
    const char *uuids = getenv("FAKE_CUDA");
    int count = uuids && *uuids ? 1 : 0;
    for (; uuids && *uuids; uuids++) count += *uuids == ',';
    *device = ordinal;
    return ordinal < count ? 0 : 101;
}

int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    const char *text = getenv("FAKE_CUDA");
    for (; device > 0; text++) device -= *text == ',';
    for (int i = 0; i < 16; text++) {
        unsigned value;
        if (*text == '-') continue;
        sscanf(text, "%2x", &value);
        uuid[i++] = (unsigned char)value;
        text++;
    }
    return 0;
}
