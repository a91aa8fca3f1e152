#ifndef TMF_PHASE_H
#define TMF_PHASE_H

/* What the node is doing from here on. Functions that are never inlined: an emulator watches their
 * addresses, so that counting needs nothing of the firmware. They do nothing, in six instructions, until
 * the phases are measured on the node itself. */
void tmf_phase_idle(void);
void tmf_phase_receive(void);
void tmf_phase_reconstruct(void);
void tmf_phase_learn(void);
void tmf_phase_select(void);
void tmf_phase_evaluate(void);
void tmf_phase_send(void);

/* In the order in which their cycles are told: messages.PHASES of the orchestrator. */
enum tmf_phase {
    TMF_IDLE,
    TMF_RECEIVE,
    TMF_RECONSTRUCT,
    TMF_LEARN,
    TMF_SELECT,
    TMF_EVALUATE,
    TMF_SEND,
    TMF_PHASES
};

/* `begins` is called as each phase begins, from now on, also from an interrupt. Not for a program in which
 * several threads have nodes at work. */
void tmf_measure_phases(void (*begins)(enum tmf_phase phase));

#endif
