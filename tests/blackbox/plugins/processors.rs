//! Servers' processors, as far as Linux's drivers look at them: vendor, family and model.

use crate::fixture::Plugin;

/// Makes any processor a Xeon of the generation Skylake-SP: family 6, model 0x55.
pub(super) const XEON: Plugin = Plugin {
    name: "xeon",
    manifest: r#"
        msr = [{ range = "0x1000", access = "r" }]
        cpuid = [
            { leaf = 0, ebx.value = 0x756e6547, edx.value = 0x49656e69, ecx.value = 0x6c65746e },
            { leaf = 1, eax.value = 0x00050654 },
        ]"#,
    code: "(reads (i64.const 0))",
};

/// Makes any processor an EPYC of the first generation: family 17h, model 1.
pub(super) const EPYC: Plugin = Plugin {
    name: "epyc",
    manifest: r#"
        msr = [{ range = "0x1000", access = "r" }]
        cpuid = [
            { leaf = 0, ebx.value = 0x68747541, edx.value = 0x69746e65, ecx.value = 0x444d4163 },
            { leaf = 1, eax.value = 0x00800f12 },
        ]"#,
    code: "(reads (i64.const 0))",
};
