/* A TCG plugin for QEMU that counts the instructions a node executes.
 *
 *   qemu-system-arm … -plugin libtmf_count.so,counts=FILE
 *
 * FILE holds one uint64 in the machine's byte order, which is up to date at any time: it is mapped, and
 * each translation block adds its length to it when it is entered. An instruction that an exception
 * keeps from executing is counted with its block.
 *
 * QEMU's packages come without its header, so the few functions used are declared here, as in
 * include/qemu/qemu-plugin.h of QEMU 4.2 to 8.2 (plugin API up to 1). */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
                                                     void *ptr, uint64_t imm);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*callback)(qemu_plugin_id_t id,
                                                                   struct qemu_plugin_tb *tb));

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc,
                               char **argv);

static uint64_t *count;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, count,
                                             qemu_plugin_tb_n_insns(tb));
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    static const char key[] = "counts=";
    if (argc != 1 || strncmp(argv[0], key, sizeof key - 1) != 0) {
        fprintf(stderr, "libtmf_count: expected one argument, counts=FILE\n");
        return 1;
    }
    const char *path = argv[0] + sizeof key - 1;
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *map = file < 0 ? MAP_FAILED
                         : mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        perror(path);
        return 1;
    }
    close(file);
    count = map;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
