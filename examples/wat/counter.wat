;; Counts how often each vCPU reads the MSR; a write sets the count.
(module
  (@custom "wasmsr.manifest"
    "[plugin]\n"
    "name = \"counter\"\n"
    "version = \"0.1.0\"\n"
    "abi = 1\n"
    "description = \"counts the reads of one MSR\"\n"
    "\n"
    "[[msr]]\n"
    "range = \"0x434e5400\"\n"
    "access = \"rw\"\n"
    "scope = \"vcpu\"\n")

  (memory (export "memory") 0)
  (func (export "wasmsr_abi_v1"))

  ;; The manifest gives each vCPU an instance of its own.
  (global $reads (mut i64) (i64.const 0))

  (func (export "rdmsr") (param $index i32) (param $vcpu i32) (param $reason i32) (result i64)
    (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
    (global.get $reads))

  (func (export "wrmsr")
    (param $index i32) (param $value i64) (param $vcpu i32) (param $reason i32)
    (global.set $reads (local.get $value))))
