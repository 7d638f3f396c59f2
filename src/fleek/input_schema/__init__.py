"""The JSON schema of a model's input, which is untrusted.

`normalize` copies it to a self-contained form of limited size; `compile_schema` makes a validator.
Both accept any JSON, return quickly and make no calls. For a schema that cannot be used they return
None, and only the provider checks the parameters.
`Validators` keeps compiled schemas and checks a job's parameters against them.
"""

from fleek.input_schema.compiled import CompiledSchema, Validators, compile_schema
from fleek.input_schema.normalized import normalize

__all__ = ["CompiledSchema", "Validators", "compile_schema", "normalize"]
