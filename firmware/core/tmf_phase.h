#ifndef TMF_PHASE_H
#define TMF_PHASE_H

/* What the node is doing from here on. Empty functions that are never inlined: an emulator watches
 * their addresses, so that counting needs nothing of the firmware. */
void tmf_phase_idle(void);
void tmf_phase_receive(void);
void tmf_phase_reconstruct(void);
void tmf_phase_learn(void);
void tmf_phase_select(void);
void tmf_phase_evaluate(void);
void tmf_phase_send(void);

#endif
