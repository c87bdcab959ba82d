/* What the machine can do at most, as one line of JSON: read bandwidth (GB/s), int8 and bf16 products (Gop/s, 2 per
 * multiply-add), f32 products. Usage: limits THREADS. Built with -march=native; a peak the machine lacks is 0.
 * Bandwidth: each thread walks its own 256 MiB in 2 MiB pages as 8 streams with prefetch, the pattern of packed weights.
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { STREAMS = 8, PASSES = 9, MAX_THREADS = 256, CHAINS = 20 };
static const size_t BYTES = (size_t)256 << 20;
static pthread_barrier_t barrier;
static int threads;
static double begins[MAX_THREADS][PASSES], ends[MAX_THREADS][PASSES];
static volatile float sink_f;
static volatile int sink_i;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void* buffer(void) {
  const size_t page = (size_t)2 << 20;
  char* base = mmap(NULL, BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) { perror("mmap"); exit(1); }
  char* aligned = (char*)(((uintptr_t)base + page - 1) & ~(uintptr_t)(page - 1));
  madvise(aligned, BYTES, MADV_HUGEPAGE);
  memset(aligned, 1, BYTES);
  return aligned;
}

static void read_once(const char* data) {
  const size_t part = BYTES / STREAMS;
#ifdef __AVX512F__
  __m512i sum[STREAMS];
#pragma GCC unroll 8
  for (int s = 0; s < STREAMS; s++) sum[s] = _mm512_setzero_si512();
  for (size_t at = 0; at < part; at += 64)
#pragma GCC unroll 8
    for (int s = 0; s < STREAMS; s++) {
      _mm_prefetch(data + s * part + at + 2048, _MM_HINT_T0);
      sum[s] = _mm512_xor_si512(sum[s], _mm512_load_si512(data + s * part + at));
    }
  int total = 0;
#pragma GCC unroll 8
  for (int s = 0; s < STREAMS; s++) total += _mm512_reduce_add_epi32(sum[s]);
  sink_i = total;
#else
  uint64_t sum[STREAMS] = {0};
  for (size_t at = 0; at < part; at += 8)
    for (int s = 0; s < STREAMS; s++) sum[s] ^= *(const uint64_t*)(data + s * part + at);
  uint64_t total = 0;
  for (int s = 0; s < STREAMS; s++) total ^= sum[s];
  sink_i = (int)total;
#endif
}

static void int8_once(long rounds) {
#ifdef __AVX512VNNI__
  __m512i sum[CHAINS], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
#pragma GCC unroll 20
  for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_setzero_si512();
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 20
    for (int c = 0; c < CHAINS; c++) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[c]) : "v"(a), "v"(b));
  }
#pragma GCC unroll 20
  for (int c = 0; c < CHAINS; c++) sink_i += _mm512_reduce_add_epi32(sum[c]);
#endif
  (void)rounds;
}

static void bf16_once(long rounds) {
#ifdef __AVX512BF16__
  __m512 sum[CHAINS];
  __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();
#pragma GCC unroll 20
  for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_setzero_ps();
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 20
    for (int c = 0; c < CHAINS; c++) __asm__ volatile("vdpbf16ps %2, %1, %0" : "+v"(sum[c]) : "v"(a), "v"(b));
  }
#pragma GCC unroll 20
  for (int c = 0; c < CHAINS; c++) sink_f += _mm512_reduce_add_ps(sum[c]);
#endif
  (void)rounds;
}

static void f32_once(long rounds) {
#ifdef __AVX512F__
  __m512 sum[CHAINS], a = _mm512_setzero_ps(), b = _mm512_setzero_ps();
#pragma GCC unroll 20
  for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_setzero_ps();
  for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 20
    for (int c = 0; c < CHAINS; c++) __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(sum[c]) : "v"(a), "v"(b));
  }
#pragma GCC unroll 20
  for (int c = 0; c < CHAINS; c++) sink_f += _mm512_reduce_add_ps(sum[c]);
#endif
  (void)rounds;
}

static void* int8_thread(void* arg) {
  const long id = (long)arg, rounds = 1 << 20;
  for (int p = 0; p < PASSES; p++) {
    pthread_barrier_wait(&barrier);
    begins[id][p] = now();
    int8_once(rounds);
    ends[id][p] = now();
  }
  return NULL;
}

static void* bf16_thread(void* arg) {
  const long id = (long)arg, rounds = 1 << 19;
  for (int p = 0; p < PASSES; p++) {
    pthread_barrier_wait(&barrier);
    begins[id][p] = now();
    bf16_once(rounds);
    ends[id][p] = now();
  }
  return NULL;
}

static void* f32_thread(void* arg) {
  const long id = (long)arg, rounds = 1 << 19;
  for (int p = 0; p < PASSES; p++) {
    pthread_barrier_wait(&barrier);
    begins[id][p] = now();
    f32_once(rounds);
    ends[id][p] = now();
  }
  return NULL;
}

static void* read_thread(void* arg) {
  const long id = (long)arg;
  const char* data = buffer();
  for (int p = 0; p < PASSES; p++) {
    pthread_barrier_wait(&barrier);
    begins[id][p] = now();
    read_once(data);
    ends[id][p] = now();
  }
  return NULL;
}

static int ascending(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* Units per second of all threads: median over the passes, each from the first begin to the last end. */
static double rate(void* (*body)(void*), double units_per_thread) {
  pthread_t handles[MAX_THREADS];
  double seconds[PASSES];
  for (long i = 0; i < threads; i++) pthread_create(&handles[i], NULL, body, (void*)i);
  for (int i = 0; i < threads; i++) pthread_join(handles[i], NULL);
  for (int p = 0; p < PASSES; p++) {
    double begin = begins[0][p], end = ends[0][p];
    for (int i = 1; i < threads; i++) {
      if (begins[i][p] < begin) begin = begins[i][p];
      if (ends[i][p] > end) end = ends[i][p];
    }
    seconds[p] = end - begin;
  }
  qsort(seconds, PASSES, sizeof(double), ascending);
  return threads * units_per_thread / seconds[PASSES / 2];
}

int main(int argc, char** argv) {
  threads = argc > 1 ? atoi(argv[1]) : 1;
  if (threads < 1 || threads > MAX_THREADS) { fprintf(stderr, "limits: THREADS from 1 to %d\n", MAX_THREADS); return 2; }
  pthread_barrier_init(&barrier, NULL, threads);
  const double bandwidth = rate(read_thread, (double)BYTES) / 1e9;
  double int8 = 0, bf16 = 0, f32 = 0;
#ifdef __AVX512VNNI__
  int8 = rate(int8_thread, (double)(1 << 20) * CHAINS * 128) / 1e9;
#endif
#ifdef __AVX512BF16__
  bf16 = rate(bf16_thread, (double)(1 << 19) * CHAINS * 64) / 1e9;
#endif
#ifdef __AVX512F__
  f32 = rate(f32_thread, (double)(1 << 19) * CHAINS * 32) / 1e9;
#endif
  printf("{\"bandwidth_gbs\": %.2f, \"int8_gops\": %.1f, \"bf16_gflops\": %.1f, \"f32_gflops\": %.1f}\n", bandwidth, int8, bf16, f32);
  return 0;
}
