//! Python callables in subprocesses of our own entry module. Never `multiprocessing`: inside a task it hangs.

mod blame;
mod driver;
mod launch;
mod pace;
mod process;
mod wire;

pub use driver::PythonDriver;
pub use launch::Spec;
