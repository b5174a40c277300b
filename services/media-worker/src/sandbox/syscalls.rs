//! Seccomp: an allow-list. Anything else fails with EPERM, which libraries cope with (glibc and
//! iconv try to open files); what no decoder ever does ends the process, so that the parent sees
//! SIGSYS and knows that the recording attacked.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Allowed with any argument.
const ALLOWED: &[c_long] = &[
    // The descriptors this process was given.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_close,
    // Memory; mapping is below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads; starting them is below.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Clocks, randomness, and what `qsort` asks about memory.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
];

/// Never part of decoding: an attempt ends the process.
const FATAL: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
];

/// Installs the filters. Of several filters' answers the kernel takes the strictest.
pub fn apply() -> Result<()> {
    let allowed = filter(allowed()?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    let fatal = filter(unconditional(FATAL), SeccompAction::Allow, SeccompAction::KillProcess)?;
    // A filter can't look into clone3's struct; glibc takes ENOSYS to mean "use clone".
    let no_clone3 =
        filter(unconditional(&[libc::SYS_clone3]), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    // The allow-list goes last: it does not allow installing filters.
    apply_filter(&fatal).context("install the fatal list")?;
    apply_filter(&no_clone3).context("install the answer to clone3")?;
    apply_filter(&allowed).context("install the allow-list")
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn filter(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into().context("architecture")?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture)?;
    Ok(filter.try_into()?)
}

fn unconditional(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn allowed() -> Result<Rules> {
    let mut rules = unconditional(ALLOWED);
    // Passed to the filter of clone3, whose answer is stricter.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Threads, not processes.
    rules.insert(libc::SYS_clone, vec![has_bits(0, libc::CLONE_THREAD as u64)?]);
    // Memory that is never executable.
    rules.insert(libc::SYS_mmap, vec![has_no_bits(2, libc::PROT_EXEC as u64)?]);
    rules.insert(libc::SYS_mprotect, vec![has_no_bits(2, libc::PROT_EXEC as u64)?]);
    // Limits may be asked for, not set.
    rules.insert(libc::SYS_prlimit64, vec![equals(2, 0)?]);
    // Naming a thread.
    rules.insert(libc::SYS_prctl, vec![equals(0, libc::PR_SET_NAME as u64)?]);
    // `abort` signals its own process.
    rules.insert(libc::SYS_tgkill, vec![equals(0, std::process::id().into())?]);
    Ok(rules)
}

fn equals(argument: u8, value: u64) -> Result<SeccompRule> {
    rule(argument, SeccompCmpOp::Eq, value)
}

fn has_bits(argument: u8, bits: u64) -> Result<SeccompRule> {
    rule(argument, SeccompCmpOp::MaskedEq(bits), bits)
}

fn has_no_bits(argument: u8, bits: u64) -> Result<SeccompRule> {
    rule(argument, SeccompCmpOp::MaskedEq(bits), 0)
}

fn rule(argument: u8, comparison: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, comparison, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    /// Runs `attempt` in a child that the filters confine, and returns the signal that ended it.
    fn signal_after(attempt: impl Fn() + Send + Sync + 'static) -> Option<i32> {
        let mut command = Command::new("/bin/true");
        let confined = move || {
            super::apply().map_err(std::io::Error::other)?;
            attempt();
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(0) }
        };
        // SAFETY: a test; the closure allocates after fork, which glibc supports.
        unsafe { command.pre_exec(confined) };
        command.status().unwrap().signal()
    }

    #[test]
    fn opening_a_file_is_refused_and_threads_still_start() {
        let opened = std::thread::spawn(|| {
            super::apply().unwrap();
            std::thread::spawn(|| std::fs::File::open("/etc/hostname").map(drop)).join().unwrap()
        });
        let error = opened.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn executable_memory_is_refused() {
        let mapped = std::thread::spawn(|| {
            super::apply().unwrap();
            let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a fresh anonymous mapping touches no memory in use.
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) as isize }
        });
        assert_eq!(mapped.join().unwrap(), libc::MAP_FAILED as isize);
    }

    #[test]
    fn a_harmless_child_ends_by_itself() {
        assert_eq!(signal_after(|| {}), None);
    }

    #[test]
    fn a_socket_ends_the_process() {
        let connect = || drop(std::net::TcpStream::connect("127.0.0.1:1"));
        assert_eq!(signal_after(connect), Some(libc::SIGSYS));
    }

    #[test]
    fn executing_ends_the_process() {
        let execute = || drop(Command::new("/bin/true").exec());
        assert_eq!(signal_after(execute), Some(libc::SIGSYS));
    }

    #[test]
    fn forking_is_refused() {
        let fork = || {
            // SAFETY: plain system call, refused by the filter.
            if unsafe { libc::fork() } != -1 {
                std::process::abort();
            }
        };
        assert_eq!(signal_after(fork), None);
    }
}
