"""How clients write: other spellings of our fields and values, misspelt addresses, requests that come twice."""
