"""The words of the house: plain Python types that every floor may use."""
