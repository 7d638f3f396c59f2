"""The JSON schema of a model's input, as a stranger wrote it.

`normalize` copies it into a form of bounded size that needs nothing from elsewhere; `compile_schema`
makes a validator of it. Both are total: whatever they are given, they answer, quickly, and make no
call. What cannot be used is None, and the parameters are left to the provider to check.
`Validators` keeps compiled schemas and checks a job's parameters against them.
"""

from fleek.input_schema.compiled import CompiledSchema, Validators, compile_schema
from fleek.input_schema.normalized import normalize

__all__ = ["CompiledSchema", "Validators", "compile_schema", "normalize"]
