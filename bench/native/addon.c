// The Node addon around the baselines: one memory at a time, given as a Uint8Array over it; numbers in, numbers out.
#include <node_api.h>
#include <time.h>
#include "engine.h"

#define MOST_ARGUMENTS 3

static u8 *memory;
static size_t memory_length;

/** Throws and answers no value. */
static napi_value refuse(napi_env env, const char *message)
{
  napi_throw_error(env, NULL, message);
  return NULL;
}

/** Reads `count` u32 arguments; false (and an exception) if they are not numbers or no memory was given. */
static int read_arguments(napi_env env, napi_callback_info info, size_t count, u32 *out)
{
  napi_value values[MOST_ARGUMENTS];
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok || given < count || !memory) {
    refuse(env, "useMemory first, then as many numbers as the function takes");
    return 0;
  }
  for (size_t i = 0; i < count; i++) {
    if (napi_get_value_uint32(env, values[i], &out[i]) != napi_ok) {
      refuse(env, "an argument is not a number");
      return 0;
    }
  }
  return 1;
}

static napi_value number(napi_env env, double value)
{
  napi_value result;
  return napi_create_double(env, value, &result) == napi_ok ? result : NULL;
}

/** useMemory(Uint8Array): the memory of the calls that follow; its owner keeps it alive. Answers its length. */
static napi_value use_memory(napi_env env, napi_callback_info info)
{
  napi_value array;
  size_t given = 1;
  napi_typedarray_type type;
  void *data;
  if (napi_get_cb_info(env, info, &given, &array, NULL, NULL) != napi_ok || given < 1
      || napi_get_typedarray_info(env, array, &type, &memory_length, &data, NULL, NULL) != napi_ok
      || type != napi_uint8_array || !data) {
    return refuse(env, "useMemory takes a Uint8Array with bytes");
  }
  memory = data;
  return number(env, (double)memory_length);
}

/** cpuTime(): nanoseconds of processor time that this thread has used. */
static napi_value cpu_time(napi_env env, napi_callback_info info)
{
  struct timespec now;
  (void)info;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return number(env, (double)now.tv_sec * 1e9 + (double)now.tv_nsec);
}

/** word(offset): the u32 there; the loader compares it with what JavaScript sees. */
static napi_value word(napi_env env, napi_callback_info info)
{
  u32 at;
  if (!read_arguments(env, info, 1, &at)) return NULL;
  if (memory_length < 4 || at > memory_length - 4) return refuse(env, "the offset is outside the memory");
  return number(env, load32(memory, at));
}

#define PORT_KERNEL(name, kernel) \
  static napi_value name(napi_env env, napi_callback_info info) \
  { \
    u32 given[2]; \
    return read_arguments(env, info, 2, given) ? number(env, kernel(memory, given[0], given[1])) : NULL; \
  }

PORT_KERNEL(hits, translate_hits)
PORT_KERNEL(hits_in_groups, translate_hits_in_groups)
PORT_KERNEL(walking, translate_walking)
PORT_KERNEL(naive_vtd, translate_naive_vtd)
PORT_KERNEL(naive_mixed, translate_naive_mixed)
PORT_KERNEL(naive_x86, translate_naive_x86)
PORT_KERNEL(naive_arm, translate_naive_arm)
PORT_KERNEL(three_pass, translate_three_pass)
PORT_KERNEL(two_stage, translate_two_stage)
PORT_KERNEL(chasing, chase)

/** mapAndUnmap(format, pages, times), mapChecksum(format, pages): tables in the addon's own memory. */
static napi_value mapping(napi_env env, napi_callback_info info)
{
  u32 given[3];
  return read_arguments(env, info, 3, given) ? number(env, map_and_unmap(given[0], given[1], given[2])) : NULL;
}

static napi_value mapping_checksum(napi_env env, napi_callback_info info)
{
  u32 given[2];
  return read_arguments(env, info, 2, given) ? number(env, map_checksum(given[0], given[1])) : NULL;
}

/** mergeAndUnmap(parent, areas, n), mergeChecksum(parent, areas, n): a table and records in the memory given. */
static napi_value merging(napi_env env, napi_callback_info info)
{
  u32 given[3];
  return read_arguments(env, info, 3, given) ? number(env, merge_and_unmap(memory, given[0], given[1], given[2])) : NULL;
}

static napi_value merging_checksum(napi_env env, napi_callback_info info)
{
  u32 given[3];
  return read_arguments(env, info, 3, given) ? number(env, merge_checksum(memory, given[0], given[1], given[2])) : NULL;
}

/** mapList(at, n), unmapList(at, n): records in the memory given, tables in the addon's own; unmapPages(first, last, reading). */
static napi_value list_mapping(napi_env env, napi_callback_info info)
{
  u32 given[2];
  return read_arguments(env, info, 2, given) ? number(env, map_list(memory, given[0], given[1])) : NULL;
}

static napi_value list_unmapping(napi_env env, napi_callback_info info)
{
  u32 given[2];
  return read_arguments(env, info, 2, given) ? number(env, unmap_list(memory, given[0], given[1])) : NULL;
}

static napi_value page_unmapping(napi_env env, napi_callback_info info)
{
  u32 given[3];
  return read_arguments(env, info, 3, given) ? number(env, unmap_pages(given[0], given[1], given[2])) : NULL;
}

static napi_value list_summing(napi_env env, napi_callback_info info)
{
  u32 given[2];
  return read_arguments(env, info, 2, given) ? number(env, list_checksum(given[0], given[1])) : NULL;
}

NAPI_MODULE_INIT()
{
  const napi_property_descriptor functions[] = {
    { "useMemory", NULL, use_memory, NULL, NULL, NULL, napi_enumerable, NULL },
    { "cpuTime", NULL, cpu_time, NULL, NULL, NULL, napi_enumerable, NULL },
    { "word", NULL, word, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateHits", NULL, hits, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateHitsInGroups", NULL, hits_in_groups, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateWalking", NULL, walking, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateNaiveVtd", NULL, naive_vtd, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateNaiveMixed", NULL, naive_mixed, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateNaiveX86", NULL, naive_x86, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateNaiveArm", NULL, naive_arm, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateThreePass", NULL, three_pass, NULL, NULL, NULL, napi_enumerable, NULL },
    { "translateTwoStage", NULL, two_stage, NULL, NULL, NULL, napi_enumerable, NULL },
    { "mapAndUnmap", NULL, mapping, NULL, NULL, NULL, napi_enumerable, NULL },
    { "mapChecksum", NULL, mapping_checksum, NULL, NULL, NULL, napi_enumerable, NULL },
    { "mergeAndUnmap", NULL, merging, NULL, NULL, NULL, napi_enumerable, NULL },
    { "mergeChecksum", NULL, merging_checksum, NULL, NULL, NULL, napi_enumerable, NULL },
    { "mapList", NULL, list_mapping, NULL, NULL, NULL, napi_enumerable, NULL },
    { "unmapList", NULL, list_unmapping, NULL, NULL, NULL, napi_enumerable, NULL },
    { "unmapPages", NULL, page_unmapping, NULL, NULL, NULL, napi_enumerable, NULL },
    { "listChecksum", NULL, list_summing, NULL, NULL, NULL, napi_enumerable, NULL },
    { "chase", NULL, chasing, NULL, NULL, NULL, napi_enumerable, NULL },
  };
  size_t count = sizeof functions / sizeof functions[0];
  return napi_define_properties(env, exports, count, functions) == napi_ok ? exports : NULL;
}
