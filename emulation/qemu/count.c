/* A TCG plugin for QEMU that counts what a processor executes, by block and phase.
 *
 *   qemu-system-arm … -plugin libtmf_count.so,counts=FILE[,phases=ADDRESS:…][,handlers=ADDRESS:…][,accesses=on]
 *
 * FILE holds a struct counters, zero at first. It is mapped and up to date at any time; who reads it need
 * not stop the processor. A block is what QEMU translates at a time: instructions that follow each other
 * in memory, of which only the last can branch. What an instruction is, and what it costs, is for the
 * reader to say: it has the program. Where loads and stores go is noted if asked for; it halves the speed.
 *
 * The functions used are declared here, because QEMU's packages come without its header
 * (include/qemu/qemu-plugin.h). PLUGIN_API is the version of the interface: 0 for QEMU 4.2 to 5.2, 1 to
 * 8.2, 2 from 9.0 on. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_RW = 3 };

extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
#if PLUGIN_API < 2
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#else
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
#endif
extern void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t id,
                                              void (*callback)(qemu_plugin_id_t id, unsigned vcpu));
extern void qemu_plugin_register_vcpu_resume_cb(qemu_plugin_id_t id,
                                                void (*callback)(qemu_plugin_id_t id, unsigned vcpu));
extern unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*callback)(qemu_plugin_id_t id,
                                                                   struct qemu_plugin_tb *tb));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                                 void (*callback)(unsigned vcpu, void *data),
                                                 enum qemu_plugin_cb_flags flags, void *data);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                             void (*callback)(unsigned vcpu, qemu_plugin_meminfo_t info,
                                                              uint64_t address, void *data),
                                             enum qemu_plugin_cb_flags flags,
                                             enum qemu_plugin_mem_rw rw, void *data);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = PLUGIN_API;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc,
                               char **argv);

/* Known to the reader too: orchestrator/tinymetafed/nodes/counters.py. */
#define BLOCKS 16384
#define PHASES 64
#define ACCESSES 16384

enum way { FALL_THROUGH, ELSEWHERE, TO_A_HANDLER, WAYS }; /* from a block to the next */

struct counters {
    uint64_t blocks;              /* known; block 0 stands for none */
    uint64_t lost;                /* blocks executed that found no room */
    uint64_t accesses;            /* known */
    uint64_t asleep;              /* the phase in which the processor sleeps, and 1; 0 while it does not */
    uint64_t begun;               /* the address of the block that was entered last, if accesses are noted */
    uint64_t unaligned[PHASES];   /* accesses of a bus more than the loads themselves, if asked for */
    struct {
        uint32_t start, end;
    } block[BLOCKS];
    struct access {
        uint32_t instruction; /* its address */
        uint32_t memories;    /* bit i: it went to the i-th 512 MiB */
    } access[ACCESSES];
    uint64_t left[PHASES][BLOCKS][WAYS]; /* how often a block was left, and which way */
};

struct block {
    uint32_t start, end;
    uint64_t *left;  /* its counts in phase 0 */
    unsigned phase;  /* that begins here; 0 for none */
    bool handler;    /* of an exception begins here */
};

struct addresses {
    size_t count;
    uint32_t at[256];
};

/* Room on the disk is taken for so many blocks, or accesses, at a time: who writes to a mapped page that
 * finds none is killed by SIGBUS, and says nothing. */
#define STEP 512

static struct counters *counters;
static const char *counters_path;
static int counters_file;
static struct addresses phases, handlers;
static bool note_accesses;

/* The first block stands for none: for what was before the first, and for those that found no room. */
static struct block blocks[BLOCKS];
static const struct block *current = &blocks[0];
static unsigned phase;
static size_t phase_offset; /* of a block's counts from those in phase 0 */

/* Executed with every block, so the node's speed hangs on it. */
static inline void go_to(const struct block *block, enum way way)
{
    current->left[phase_offset + way]++;
    current = block;
}

static void executed(unsigned vcpu, void *data)
{
    (void)vcpu;
    const struct block *block = data;
    go_to(block, block->start != current->end);
}

static void executed_special(unsigned vcpu, void *data)
{
    (void)vcpu;
    const struct block *block = data;
    go_to(block, block->handler ? TO_A_HANDLER : block->start != current->end);
    if (block->phase != 0) {
        phase = block->phase;
        phase_offset = phase * sizeof counters->left[0] / sizeof counters->left[0][0][0];
    }
}

/* What it has executed is in the counters before a reader finds it asleep. */
static void fell_asleep(qemu_plugin_id_t id, unsigned vcpu)
{
    (void)id;
    (void)vcpu;
    __atomic_store_n(&counters->asleep, phase + 1, __ATOMIC_RELEASE);
}

static void awoke(qemu_plugin_id_t id, unsigned vcpu)
{
    (void)id;
    (void)vcpu;
    __atomic_store_n(&counters->asleep, 0, __ATOMIC_RELEASE);
}

static void noted(unsigned vcpu, void *data)
{
    (void)vcpu;
    const struct block *block = data;
    if (block->start != 0) { /* where a fault without a handler leads to */
        counters->begun = block->start;
    }
}

static void executed_lost(unsigned vcpu, void *data)
{
    (void)vcpu;
    go_to(data, ELSEWHERE);
    counters->lost++;
}

static void accessed(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    (void)vcpu;
    struct access *access = data;
    const unsigned shift = qemu_plugin_mem_size_shift(info);
    if (access != NULL) {
        access->memories |= 1u << (address >> 29 & 7);
    }
    /* A halfword is then loaded as two bytes, a word as two halfwords or as byte, halfword, byte. */
    if ((shift == 1 || shift == 2) && !qemu_plugin_mem_is_store(info)) {
        counters->unaligned[phase] += (address & 1) != 0 ? shift : (address >> 1 & (shift - 1)) != 0;
    }
}

static size_t find(const struct addresses *addresses, uint32_t address)
{
    size_t i = 0;
    while (i < addresses->count && addresses->at[i] != address) {
        i++;
    }
    return i;
}

static void reserve(const void *from, size_t size)
{
    const int error = posix_fallocate(counters_file, (const char *)from - (const char *)counters, (off_t)size);
    if (error != 0) {
        fprintf(stderr, "libtmf_count: %s: %s\n", counters_path, strerror(error));
        _exit(1);
    }
}

static void reserve_blocks(size_t from)
{
    reserve(&counters->block[from], STEP * sizeof counters->block[0]);
    for (size_t i = 0; i <= phases.count; i++) {
        reserve(counters->left[i][from], STEP * sizeof counters->left[0][0]);
    }
}

/* A block that is translated again, for another state of the processor, stays one block. */
static struct block *find_block(uint32_t from, uint32_t to)
{
    const size_t known = (size_t)counters->blocks;
    size_t i = 1;
    while (i < known && (blocks[i].start != from || blocks[i].end != to)) {
        i++;
    }
    if (i == BLOCKS) {
        return &blocks[0];
    }
    if (i == known) {
        if (i % STEP == 0) {
            reserve_blocks(i);
        }
        const size_t which = find(&phases, from);
        blocks[i] = (struct block){
            .start = from,
            .end = to,
            .left = counters->left[0][i],
            .phase = which < phases.count ? (unsigned)which + 1 : 0,
            .handler = find(&handlers, from) < handlers.count,
        };
        counters->block[i].start = from;
        counters->block[i].end = to;
        __atomic_store_n(&counters->blocks, known + 1, __ATOMIC_RELEASE);
    }
    return &blocks[i];
}

static struct access *find_access(uint32_t instruction)
{
    size_t i = 0;
    while (i < counters->accesses && counters->access[i].instruction != instruction) {
        i++;
    }
    if (i == ACCESSES) {
        return NULL;
    }
    if (i == counters->accesses) {
        if (i % STEP == 0) {
            reserve(&counters->access[i], STEP * sizeof counters->access[0]);
        }
        counters->access[i].instruction = instruction;
        counters->accesses++;
    }
    return &counters->access[i];
}

/* QEMU 7.2 counts to the last instruction of a page what it looked at behind it (include/exec/translator.h:
 * every halfword that is read is appended), so its size is taken from its first halfword there. */
static uint32_t size_of(const struct qemu_plugin_insn *insn)
{
#if PLUGIN_API < 2
    const uint8_t *code = qemu_plugin_insn_data(insn);
    return code[1] >= 0xE8 ? 4 : 2; /* Armv7-M Architecture Reference Manual, A5.1 */
#else
    return (uint32_t)qemu_plugin_insn_size(insn);
#endif
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    const uint32_t from = (uint32_t)qemu_plugin_tb_vaddr(tb);
    uint32_t to = from;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        if (note_accesses) {
            qemu_plugin_register_vcpu_mem_cb(insn, accessed, QEMU_PLUGIN_CB_NO_REGS,
                                             QEMU_PLUGIN_MEM_RW, find_access(to));
        }
        to += size_of(insn);
    }
    struct block *block = find_block(from, to);
    if (note_accesses) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, noted, QEMU_PLUGIN_CB_NO_REGS, block);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb,
                                         block == &blocks[0]                   ? executed_lost
                                         : block->phase != 0 || block->handler ? executed_special
                                                                               : executed,
                                         QEMU_PLUGIN_CB_NO_REGS, block);
}

/* The value of NAME=VALUE, or NULL. */
static const char *value_of(const char *argument, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1 : NULL;
}

static bool parse(struct addresses *addresses, size_t room, const char *text)
{
    while (*text != '\0') {
        char *rest;
        const unsigned long address = strtoul(text, &rest, 0);
        if (rest == text || (*rest != ':' && *rest != '\0') || addresses->count == room) {
            return false;
        }
        addresses->at[addresses->count++] = (uint32_t)address;
        text = *rest == ':' ? rest + 1 : rest;
    }
    return true;
}

static bool map(const char *path)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) {
        perror(path);
        return false;
    }
    if (about.st_size != sizeof *counters) {
        fprintf(stderr, "%s: %lld bytes instead of %zu\n", path, (long long)about.st_size,
                sizeof *counters);
        return false;
    }
    counters = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counters == MAP_FAILED) {
        perror(path);
        return false;
    }
    counters_file = file;
    counters_path = strdup(path);
    return true;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        const char *value;
        bool good = false;
        if ((value = value_of(argv[i], "counts")) != NULL) {
            good = map(value);
        } else if ((value = value_of(argv[i], "phases")) != NULL) {
            good = parse(&phases, PHASES - 1, value);
        } else if ((value = value_of(argv[i], "handlers")) != NULL) {
            good = parse(&handlers, sizeof handlers.at / sizeof handlers.at[0], value);
        } else if ((value = value_of(argv[i], "accesses")) != NULL) {
            good = true;
            note_accesses = strcmp(value, "on") == 0;
        }
        if (!good) {
            fprintf(stderr, "libtmf_count: %s cannot be used\n", argv[i]);
            return 1;
        }
    }
    if (counters == NULL) {
        fprintf(stderr, "libtmf_count: counts=FILE is missing\n");
        return 1;
    }
    reserve(counters, offsetof(struct counters, block));
    reserve_blocks(0);
    counters->blocks = 1;
    blocks[0].left = counters->left[0][0];
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_idle_cb(id, fell_asleep);
    qemu_plugin_register_vcpu_resume_cb(id, awoke);
    return 0;
}
