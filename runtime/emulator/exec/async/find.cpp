#include "runtime/emulator/exec/async/handlers.h"
#include "runtime/emulator/exec/handlers.h"

namespace gdnjit::emulator {

Handler find_async(const OpKey& key) {
  switch (key.op) {
    case Opcode::cp_async: return execute_cp_async;
    case Opcode::cp_async_commit: return execute_cp_async_commit;
    case Opcode::cp_async_wait: return execute_cp_async_wait;
    case Opcode::cp_async_arrive: return execute_cp_async_arrive;
    case Opcode::bulk_copy: return execute_bulk_copy;
    case Opcode::bulk_commit: return execute_bulk_commit;
    case Opcode::bulk_wait: return execute_bulk_wait;
    case Opcode::bulk_prefetch: return execute_bulk_prefetch;
    case Opcode::tensor_load: return execute_tensor_load;
    case Opcode::tensor_store: return execute_tensor_store;
    case Opcode::tensor_prefetch: return execute_tensor_prefetch;
    case Opcode::prefetch_tensormap: return execute_prefetch_tensormap;
    case Opcode::mbarrier_init: return execute_mbarrier_init;
    case Opcode::mbarrier_inval: return execute_mbarrier_inval;
    case Opcode::mbarrier_expect_tx: return execute_mbarrier_expect_tx;
    case Opcode::mbarrier_complete_tx: return execute_mbarrier_complete_tx;
    case Opcode::mbarrier_arrive: return execute_mbarrier_arrive;
    case Opcode::mbarrier_test_wait: return execute_mbarrier_test_wait;
    case Opcode::mbarrier_try_wait: return execute_mbarrier_try_wait;
    case Opcode::mbarrier_pending_count: return execute_mbarrier_pending_count;
    case Opcode::fence: return execute_fence;
    default: return nullptr;
  }
}

}  // namespace gdnjit::emulator
